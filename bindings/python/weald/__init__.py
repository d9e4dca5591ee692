"""weald: green threads on libweald, with gevent's API.

    import weald
    weald.joinall([weald.spawn(print, "one"), weald.spawn(print, "two")])

The modules are named as gevent's are. `weald.install_as_gevent()` makes programs written for gevent run on them; see
also `python -m weald --help`. `weald.monkey.patch_all()` makes the standard library cooperative.

PYTEST_DONT_REWRITE: we are a plugin of its as well, and it warns of what it finds imported.
"""
from sys import getswitchinterval, modules, setswitchinterval

from weald._version import version as __version__

#: weald's own version; `__version__` is what gevent would say while weald stands in for it.
weald_version = __version__

__all__ = [
    "Greenlet", "GreenletExit", "Timeout", "config", "fork", "get_hub", "getcurrent", "getswitchinterval", "idle",
    "iwait", "joinall", "kill", "killall", "reinit", "setswitchinterval", "signal_handler", "sleep", "spawn",
    "spawn_later", "spawn_raw", "wait", "with_timeout",
]  # fmt: skip

from weald._config import config
from weald.hub import GreenletExit, get_hub, getcurrent, idle, iwait, kill, reinit, signal as signal_handler, sleep
from weald.hub import spawn_raw, wait
from weald.greenlet import Greenlet, joinall, killall
from weald.timeout import Timeout, with_timeout
from weald.os import fork

spawn = Greenlet.spawn
spawn_later = Greenlet.spawn_later


class _VersionInfo(tuple):
    """gevent's version_info: five parts that have names."""

    major, minor, micro, releaselevel, serial = (property(lambda self, part=part: self[part]) for part in range(5))


def _version_info():
    from weald._alias import STANDS_FOR

    return _VersionInfo((*map(int, STANDS_FOR["gevent"].split(".")), "final", 0))


def install_as_gevent():
    """Makes `import gevent...` and `import greenlet` give weald's modules, in this process. See weald._alias."""
    from weald._alias import install

    install()


def __getattr__(name):
    if name == "version_info":
        # Here and not above: what it asks takes longer to import than all the rest.
        globals()[name] = value = _version_info()
        return value
    # `from gevent import name`: the import system looks here first, and then for a module of *our* name. `from weald
    # import name` comes by as well, and is not to load what only the alias needs.
    alias = modules.get("weald._alias")
    module = alias.module_of_gevent(name) if alias else None
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return module
