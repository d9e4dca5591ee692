"""The standard module `_thread`, where a thread is a greenlet."""
import _thread as __thread__
import sys

from weald._core import Lock as LockType, get_ident
from weald._names import take
from weald.greenlet import Greenlet
from weald.hub import GreenletExit, getcurrent, sleep
from weald.local import local as _local

__target__ = "_thread"
__implements__ = ["allocate_lock", "get_ident", "exit", "LockType", "stack_size", "start_new_thread", "_local"]
if sys.version_info >= (3, 13):
    __implements__ += ["start_joinable_thread", "lock", "_ThreadHandle", "_make_thread_handle"]
__imports__ = take(__thread__, globals(), [
    "error", "TIMEOUT_MAX", "allocate", "exit_thread", "interrupt_main", "start_new", "get_native_id",
    "daemon_threads_allowed", "RLock", "set_name",
])  # fmt: skip


def start_new_thread(function, args=(), kwargs=None):
    """Starts a greenlet, and returns its ident."""
    return get_ident(Greenlet.spawn(function, *args, **(kwargs or {})))


def exit():
    """Ends the calling greenlet."""
    raise GreenletExit


allocate_lock = lock = LockType


class _ThreadHandle:
    """What `threading` of 3.13 and later knows a thread by."""

    _greenlet = None  # a weak reference, once there is a greenlet
    _had_greenlet = False

    def __init__(self, *args, **kwargs):
        pass

    def _set_greenlet(self, greenlet):
        from weakref import ref

        self._greenlet = ref(greenlet)
        self._had_greenlet = True

    def _get_greenlet(self):
        return None if self._greenlet is None else self._greenlet()

    def join(self, timeout=-1):
        if not self._had_greenlet:
            raise RuntimeError("thread not started")
        greenlet = self._get_greenlet()
        if greenlet is None:
            return
        if greenlet is getcurrent():
            raise RuntimeError("Cannot join current thread")
        if timeout is not None and timeout < 0:
            timeout = None
        if hasattr(greenlet, "join"):
            greenlet.join(timeout)
            return
        # The main greenlet has no join; `_set_done` is how it ends.
        from time import monotonic

        end = None if timeout is None else monotonic() + timeout
        while not self.is_done() and (end is None or monotonic() < end):
            sleep(0.001)

    @property
    def ident(self):
        greenlet = self._get_greenlet()
        return None if greenlet is None else get_ident(greenlet)

    def is_done(self):
        greenlet = self._get_greenlet()
        return greenlet is None or greenlet.dead

    def _set_done(self, enter_hub=True):
        if not self._had_greenlet:
            raise RuntimeError("thread not started")
        self._greenlet = None
        if enter_hub:
            # Those who wait in join see it.
            sleep(0.001)

    def __repr__(self):
        return f"<{type(self).__module__}.{type(self).__name__} at {id(self):#x} greenlet={self._get_greenlet()!r}>"


def _make_thread_handle(*args):
    """A handle of the calling greenlet; `threading` asks for it in a child after a fork."""
    handle = _ThreadHandle()
    handle._set_greenlet(getcurrent())
    return handle


def start_joinable_thread(function, handle=None, daemon=True):
    """Starts a greenlet, and returns a handle."""
    if handle is None:
        handle = _ThreadHandle()
    elif not isinstance(handle, _ThreadHandle):
        raise AssertionError("not a handle made by weald.thread")
    elif handle._had_greenlet:
        raise RuntimeError("thread already started")
    handle._set_greenlet(Greenlet.spawn(function))
    return handle


_original_stack_size = __thread__.stack_size


def stack_size(size=None):
    """The stack size of native threads; it is never made smaller, since greenlets of this thread would suffer."""
    now = _original_stack_size()
    if size is None:
        return now
    if size > now:
        return _original_stack_size(size)
    if size and size < 32768:
        raise ValueError(f"size not valid: {size} bytes")
    return 0


__all__ = [name for name in __implements__ + __imports__ if name != "_local"]
