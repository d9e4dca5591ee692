"""Prints, as JSON, the public names of gevent's modules, whichever gevent it is, with what can be called and how.

Run as a program; test_surface.py compares gevent's own with ours.
"""
import importlib
import inspect
import json
import sys
import warnings

MODULES = """
gevent greenlet gevent.backdoor gevent.baseserver gevent.core gevent.event gevent.events gevent.exceptions gevent.fileobject
gevent.greenlet gevent.hub gevent.local gevent.lock gevent.monkey gevent.os gevent.pool gevent.pywsgi gevent.queue
gevent.resolver gevent.resolver.blocking gevent.resolver.thread gevent.select gevent.selectors gevent.server gevent.signal
gevent.socket gevent.ssl gevent.subprocess gevent.thread gevent.threading gevent.threadpool gevent.time gevent.timeout gevent.util
""".split()


def parameters(thing):
    """[[name, kind, has a default]...], or None where nobody knows."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.name, p.default is not p.empty] for p in signature.parameters.values()]


def members(cls):
    found = {}
    for name in dir(cls):
        thing = getattr(cls, name, None)
        if not name.startswith("_"):
            found[name] = parameters(thing) if callable(thing) and not isinstance(thing, type) else None
    return found


def surface(wanted):
    out = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        names = wanted[module_name] if wanted else [
            name for name in dir(module) if not name.startswith("_")
            and (name in getattr(module, "__all__", ()) or getattr(getattr(module, name), "__module__", None) == module_name)
        ]  # fmt: skip
        out[module_name] = found = {}
        for name in names:
            if not hasattr(module, name):
                continue
            thing = getattr(module, name)
            is_class = isinstance(thing, type)
            found[name] = [parameters(thing) if callable(thing) else None, members(thing) if is_class else {}]
    return out


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    json.dump(surface(json.load(sys.stdin) if "-" in sys.argv else None), sys.stdout)
