"""Calls put off until a module of the standard library is imported: patching one must not be what imports it.

`ssl`, `subprocess` and what they need take longer to import than everything else that is patched together.
"""
import sys

_pending = {}  # by the name of the module: what is called with it


def when_imported(name, call):
    """Calls call(module) now if the module is there, and otherwise at the end of its first import."""
    module = sys.modules.get(name)
    if module is not None:
        call(module)
        return
    if not _pending:
        sys.meta_path.insert(0, _Finder)
    _pending[name] = call


def is_pending(name):
    return name in _pending


class _Finder:
    """Finds what the finders after it find, for those modules alone."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _pending:
            return None
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find and finder is not _Finder else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader:
    """The module's own loader, which is gone from the module before its code runs, and then the call."""

    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        call = _pending.pop(module.__name__, None)
        if not _pending and _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)
        if call is not None:
            call(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)
