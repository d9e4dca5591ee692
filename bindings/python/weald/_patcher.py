"""Importing a package so that it sees weald's modules in the place of the standard ones, with nothing else patched."""
import _imp
import importlib
import sys

MAPPING = {
    "gevent.local": "_threading_local",
    "gevent.socket": "socket",
    "gevent.select": "select",
    "gevent.selectors": "selectors",
    "gevent.ssl": "ssl",
    "gevent.thread": "_thread",
    "gevent.subprocess": "subprocess",
    "gevent.os": "os",
    "gevent.threading": "threading",
    "gevent.builtins": "builtins",
    "gevent.signal": "signal",
    "gevent.time": "time",
    "gevent.queue": "queue",
    "gevent.contextvars": "contextvars",
}
_PREFIX = "__g_patched_module_"


class _Patcher:
    """While it is entered, sys.modules has weald's modules under the standard names, and the package afresh."""

    module = None

    def __init__(self, package, more):
        self._package = package
        self._more = more
        self._ours = {
            standard: importlib.import_module("weald" + name.removeprefix("gevent"))
            for name, standard in MAPPING.items()
        }
        self._saved = {}

    def _is_ours(self, name):
        return name == self._package or name.startswith(self._package + ".")

    def __enter__(self):
        _imp.acquire_lock()
        self._saved = {name: sys.modules.get(name) for name in self._ours}
        for name in [name for name in sys.modules if self._is_ours(name)]:
            self._saved[name] = sys.modules.pop(name)
        sys.modules.update(self._ours)
        return self

    def __exit__(self, *exc_info):
        try:
            for name in [name for name in sys.modules if self._is_ours(name)]:
                # Kept: a later import within the package finds the same copy.
                self._ours[name] = sys.modules.pop(name)
            for name, module in self._saved.items():
                if module is None:
                    sys.modules.pop(name, None)
                else:
                    sys.modules[name] = module
        finally:
            self._saved = {}
            _imp.release_lock()

    def load(self, after):
        with self:
            self.module = importlib.import_module(self._package)
            self._load_all([self.module])
            after(self.module)
        self.module.__gevent_patcher__ = self
        sys.modules[_PREFIX + self._package] = self.module

    def _load_all(self, modules):
        while modules:
            module = modules.pop(0)
            for name in (*getattr(module, "__all__", ()), *self._more(module.__name__)):
                if not hasattr(module, name):
                    modules.append(importlib.import_module(f"{module.__name__}.{name}"))
                    setattr(module, name, modules[-1])


def import_patched(module_name, extra_all=lambda name: (), after_import_hook=lambda module: None):
    """Imports a package and all that it names in __all__, or that extra_all(name of a module) names.

    Returns an object whose `module` is the package. The program's own copy of it stays what it is.
    """
    import platform

    # Some packages ask for the architecture, which starts a process: ask before anything is replaced.
    answer, ask = platform.architecture(), platform.architecture
    platform.architecture = lambda *args, **kwargs: ask(*args, **kwargs) if args or kwargs else answer
    try:
        patcher = _Patcher(module_name, extra_all)
        patcher.load(after_import_hook)
        return patcher
    finally:
        platform.architecture = ask
