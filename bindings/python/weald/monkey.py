"""Makes the standard library cooperative, in place: `from weald import monkey; monkey.patch_all()`.

Do it first of all, in the main thread, before other modules take names out of the ones that are patched. Where it is
too late for something, a MonkeyPatchWarning says what keeps the blocking version.

    python -m weald.monkey script.py args...    runs a script with everything patched, and the alias on
    python -m weald.monkey --no-thread --module package args...

Each module of weald that has a standard twin lists in __implements__ what it replaces there. What was replaced is in
`saved`, and `get_original` gives it back.
"""
import sys

__all__ = [
    "patch_all", "patch_builtins", "patch_dns", "patch_os", "patch_queue", "patch_select", "patch_signal",
    "patch_socket", "patch_ssl", "patch_subprocess", "patch_sys", "patch_thread", "patch_time",
    "get_original", "is_module_patched", "is_object_patched", "patch_module", "main", "MonkeyPatchWarning",
]  # fmt: skip

# What is imported here is imported before anything is patched: so this alone, which imports nothing.
from weald._patching import (  # noqa: F401
    MonkeyPatchWarning,
    announce,
    get_original,
    give_warnings,
    is_anything_patched,
    is_module_patched,
    is_object_patched,
    patch_item,
    patch_module,
    patch_our_module,
    remove_item,
    saved,
    warn,
)

# What it is called there, by those who put something in its place.
_process_warnings = give_warnings
_PATCH_ALL = "_gevent_saved_patch_all_module_settings"

# ---- modules that nobody has imported yet ----


def _when_imported(name, patch, now):
    """Patches at the first import of the module, or `now`.

    What is not imported nobody has taken anything from. A subscriber wants to be asked while patch_all runs.
    """
    if now or name in sys.modules:
        patch()
        return
    from weald._on_import import when_imported

    def imported(module):
        ours = sys.modules.get("weald." + name)
        if ours is not None and getattr(ours.__spec__, "_initializing", False):
            # It is what imports the module, and calls `patch` itself when it is complete.
            _due[name] = patch
        else:
            patch()

    when_imported(name, imported)


_due = {}


def _complete(name):
    """Our module of this name is complete, and so its standard twin can be patched if that was put off."""
    patch = _due.pop(name, None)
    if patch is not None:
        patch()


# ---- module by module ----


def _unless_refused(function):
    """A subscriber's DoNotPatch makes the function return False."""
    from functools import wraps

    @wraps(function)
    def patch(*args, **kwargs):
        from weald.events import DoNotPatch

        try:
            return function(*args, **kwargs)
        except DoNotPatch:
            return False

    return patch


@_unless_refused
def patch_os():
    """os.fork, os.waitpid and os.posix_spawn; needs patch_signal for handlers of SIGCHLD."""
    patch_our_module("os")


@_unless_refused
def patch_signal():
    """signal.signal for SIGCHLD; needs patch_os."""
    patch_our_module("signal")


@_unless_refused
def patch_time():
    """time.sleep."""
    patch_our_module("time")


@_unless_refused
def patch_queue():
    """The queues in `queue`. GEVENT_MONKEY_DISABLE_QUEUE_QUEUE=1 leaves queue.Queue."""
    import os

    from weald._config import validate_bool

    items = ["SimpleQueue", "PriorityQueue", "LifoQueue"]
    if not validate_bool(os.environ.get("GEVENT_MONKEY_DISABLE_QUEUE_QUEUE", "false")):
        items.append("Queue")
    patch_our_module("queue", items=items)


@_unless_refused
def patch_subprocess():
    """subprocess.Popen and the functions that use it."""
    patch_our_module("subprocess")


@_unless_refused
def patch_socket(dns=True, aggressive=True):
    """socket.socket and the functions that make some; name look-ups as well, unless dns is false."""
    from weald import socket

    items = list(socket.__implements__)
    if not dns:
        items = [name for name in items if name not in socket.__dns__]
    patch_our_module("socket", items=items)


@_unless_refused
def patch_dns():
    """The name look-ups in `socket`."""
    from weald import socket

    patch_our_module("socket", items=socket.__dns__)


@_unless_refused
def patch_select(aggressive=True):
    """select.select and poll; unless aggressive is false, epoll and the like are removed."""
    patch_our_module("select", _patch_kwargs={"aggressive": aggressive})


@_unless_refused
def patch_selectors(aggressive=True):
    """selectors.DefaultSelector; unless aggressive is false, EpollSelector and the like are removed."""
    patch_our_module("selectors", _patch_kwargs={"aggressive": aggressive})


@_unless_refused
def patch_ssl(_warnings=None, _first_time=True):
    """ssl.SSLContext and SSLSocket. Modules that took them before keep the blocking ones, and a warning names them."""
    loaded = sys.modules.get("ssl")
    late = _first_time and loaded is not None and hasattr(loaded, "SSLContext")
    ours, _ = patch_our_module("ssl", _warnings=_warnings)
    if not late:
        return
    holders, subclasses = _find_module_refs(ours.orig_SSLContext, ("ssl", "weald.ssl"))
    if not holders and not subclasses:
        return
    message = (
        "Monkey-patching ssl after ssl has already been imported may lead to errors: what follows keeps the blocking "
        "version. Please monkey-patch earlier. "
    )
    if holders:
        message += f"Modules that had direct imports (NOT patched): {[f'{name} ({file})' for name, file in holders]}. "
    if subclasses:
        message += f"Subclasses (NOT patched): {[str(kind) for kind in subclasses]}. "
    warn(message, _warnings)


def _find_module_refs(to, excluding_names=()):
    """Modules (name, file) that hold the object, and classes derived from it."""
    import gc

    holders, subclasses = set(), set()
    for referrer in gc.get_referrers(to):
        if isinstance(referrer, dict) and "__name__" in referrer:
            if referrer["__name__"] not in excluding_names and any(value is to for value in referrer.values()):
                holders.add((referrer["__name__"], referrer.get("__file__", "<unknown>")))
        elif isinstance(referrer, type) and to in referrer.__bases__ and not referrer.__module__.startswith("weald."):
            subclasses.add(referrer)
    return holders, subclasses


@_unless_refused
def patch_builtins():
    """Nothing: imports are safe between greenlets."""


@_unless_refused
def patch_contextvars():
    """Nothing: each greenlet has its own context."""


@_unless_refused
def patch_sys(stdin=True, stdout=True, stderr=True):
    """Nothing: the interpreter flushes its streams at the end, when no thread could do it."""


@_unless_refused
def patch_thread(threading=True, _threading_local=True, Event=True, logging=True, existing_locks=True,
                 _warnings=None):  # fmt: skip
    """_thread and threading: a thread is a greenlet from now on, and locks are between greenlets.

    logging gives existing handlers locks of the new kind; existing_locks makes locks that the main thread holds right
    now belong to the greenlet that it has become.
    """
    from weald._patch_thread import Patch

    Patch(threading, _threading_local, Event, logging, existing_locks, _warnings).apply()


# ---- all of them ----


def _settle(settings):
    """What is still to be patched; saved under one key, so that a second call adds, and never takes away."""
    warnings = []
    before = saved.setdefault(_PATCH_ALL, {})
    first = not before
    if not first and before != settings:
        warn("Patching more than once will result in the union of all True parameters being patched", warnings)
    wanted = {}
    for name, value in settings.items():
        if name not in before or (value and not before[name]):
            wanted[name] = before[name] = value
    return warnings, first, wanted


def patch_all(socket=True, dns=True, time=True, select=True, thread=True, os=True, ssl=True, subprocess=True,
              sys=False, aggressive=True, Event=True, builtins=True, signal=True, queue=True, contextvars=True,
              **kwargs):  # fmt: skip
    """Patches everything that is not switched off. Returns None if there was nothing to do, False if a subscriber refused.

    A second call can add to what the first did, and nothing else. Further arguments are for subscribers.
    """
    settings = {name: value for name, value in locals().items() if name != "kwargs"}
    warnings, first, wanted = _settle(settings)
    from sys import modules  # `sys` is an argument

    if not wanted:
        _process_warnings(warnings)
        return None
    from weald import events

    try:
        event = events.GeventWillPatchAllEvent(wanted, kwargs)
        announce(event, warnings)
        if event.will_patch_module("signal") and not event.will_patch_module("os"):
            warn(
                "Patching signal but not os will result in SIGCHLD handlers installed after this not being called and "
                "os.waitpid may not function correctly if weald.subprocess is used.",
                warnings,
            )
    except events.DoNotPatch:
        return False
    # The order matters: threading needs the real time.sleep, and signal what os has put in place.
    if os:
        patch_os()
    if thread:
        patch_thread(Event=Event, _warnings=warnings)
    if time:
        patch_time()
    if sys:
        patch_sys()
    if socket:
        patch_socket(dns=dns, aggressive=aggressive)
    if select:
        # Selectors first: from 3.14 on, the standard module tries out whichever select it finds.
        patch_selectors(aggressive=aggressive)
        patch_select(aggressive=aggressive)
    heard = events.has_subscribers()
    if ssl:
        late = first and "ssl" in modules
        _when_imported("ssl", lambda: patch_ssl(_warnings=warnings, _first_time=late), now=heard)
    if subprocess:
        _when_imported("subprocess", patch_subprocess, now=heard)
    if builtins:
        patch_builtins()
    if signal:
        patch_signal()
    if queue:
        patch_queue()
    if contextvars:
        patch_contextvars()
    announce(events.GeventDidPatchBuiltinModulesEvent(wanted, kwargs), warnings)
    announce(events.GeventDidPatchAllEvent(wanted, kwargs), warnings)
    _process_warnings(warnings)
    return True


def _subscribe_signal_os(event):
    """Named by an entry point of gevent, where that is installed as well. patch_all does it itself."""


# ---- the command ----

_HELP = """weald.monkey - run a program with the standard library patched

usage: python -m weald.monkey [OPTIONS] [--module] (script|module) [ARGUMENTS]

Without OPTIONS everything is patched, as by patch_all(). --no-NAME leaves a module as it is; --NAME patches only those
that are named. --module runs a module instead of a script. --verbose tells what is done.

NAME is one of: """


def main():
    """Runs a script or module, given on the command line, with everything patched."""
    import inspect

    known = [name for name in inspect.signature(patch_all).parameters if name != "kwargs"]
    modules = [name for name in known if "patch_" + name in globals()]
    argv = sys.argv[1:]
    settings, run, verbose = {}, "run_path", False
    while argv and argv[0].startswith("--"):
        option = argv.pop(0)[2:]
        if option == "verbose":
            verbose = True
        elif option == "module":
            run = "run_module"
        elif option.startswith("no-") and option[3:] in known:
            settings[option[3:]] = False
        elif option in known:
            settings[option] = True
            if option in modules:
                for module in modules:
                    settings.setdefault(module, False)
        else:
            sys.exit(f"{_HELP}{', '.join(modules)}\n\nCannot patch {option!r}")
    if verbose:
        import pprint

        arguments = ", ".join(f"{name}={value}" for name, value in settings.items())
        version = sys.version.replace("\n", " ")
        print(f"gevent.monkey.patch_all({arguments})")
        print(f"sys.version={version}")
        print(f"sys.path={pprint.pformat(sys.path)}")
        print(f"sys.modules={pprint.pformat(sorted(sys.modules))}")
    if not argv:
        print(_HELP + ", ".join(modules))
        return None
    sys.argv[:] = argv
    import weald

    # This module is __main__ now; under its own name it must be the same, or it would not know what is patched.
    sys.modules["weald.monkey"] = weald.monkey = sys.modules[__name__]
    weald.install_as_gevent()
    patch_all(**settings)
    import runpy

    return getattr(runpy, run)(sys.argv[0], run_name="__main__", **({"alter_sys": True} if run == "run_module" else {}))


if __name__ == "__main__":
    main()
