"""Waits, in a process started with WEALD_AS_GEVENT=1, for the first import of gevent or greenlet, and turns the alias on.

The .pth beside this runs it in every such process; most are not about gevent at all, and weald costs them nothing.

PYTEST_DONT_REWRITE: we are a plugin of its as well, and it warns of what it finds imported.
"""
import sys

_NAMES = ("gevent", "greenlet")


class _Waiting:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in _NAMES:
            return None
        cls._install()
        # Or the import system would take the spec of what it finds there, and load weald a second time.
        sys.modules.pop(name, None)
        return sys.meta_path[0].find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context=None):
        if getattr(context, "name", None) in _NAMES:
            cls._install()
            return sys.meta_path[0].find_distributions(context)
        return iter(())

    @classmethod
    def _install(cls):
        if cls in sys.meta_path:
            sys.meta_path.remove(cls)
        import weald

        weald.install_as_gevent()


def wait():
    if not any(getattr(finder, "__name__", None) == "_Waiting" for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting)


wait()
