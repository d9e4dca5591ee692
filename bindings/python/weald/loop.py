"""weald's loop for gevent itself: `GEVENT_LOOP=weald.loop.Loop`.

Unmodified gevent, with its hub and greenlet's greenlets, then runs on weald's hub: C code and other bindings that use
libweald in the same thread share its loop. What gevent.core offers of a loop's module is here as well.
"""
from weald import core as _core
from weald.core import *  # noqa: F401,F403

__all__ = [*_core.__all__, "Loop"]


class Loop(_core.loop):
    """Made by gevent's hub with (flags, default)."""


def _declare():
    """gevent's tests ask whether the loop says that it implements gevent's interfaces."""
    try:
        from gevent._interfaces import ICallback, ILoop
        from zope.interface import classImplements
    except ImportError:
        return
    classImplements(Loop, ILoop)
    classImplements(_core.callback, ICallback)


_declare()
