"""The standard module `threading`, where a thread is a greenlet. It serves weald.monkey; spawn greenlets instead."""
import os
import sys
import threading as __threading__
import weakref

from weald._core import ThreadRLock
from weald.hub import getcurrent, sleep as _sleep
from weald.local import local
from weald.lock import RLock
from weald.thread import (  # noqa: F401
    _make_thread_handle,
    _ThreadHandle,
    allocate_lock,
    get_ident,
    start_joinable_thread,
    start_new_thread,
)

_PY313 = sys.version_info >= (3, 13)

__implements__ = ["local", "_allocate_lock", "Lock", "_DummyThread", "Thread", "Timer", "get_ident"]
if _PY313:
    __implements__ += ["_start_joinable_thread", "_ThreadHandle", "_make_thread_handle"]
    __extensions__ = ["_set_sentinel"]
else:
    __implements__ += ["_start_new_thread", "_set_sentinel"]
    __extensions__ = []

_get_ident = get_ident
_start_new_thread = start_new_thread
_start_joinable_thread = start_joinable_thread
_allocate_lock = Lock = _set_sentinel = allocate_lock

if hasattr(__threading__, "_CRLock"):
    # The standard one asks for the native thread. (Without any, `threading` falls back to one in Python.)
    _CRLock = ThreadRLock
    __implements__.append("_CRLock")


def main_native_thread():
    """The object that stands for the process's first thread."""
    return __threading__.main_thread()


def _forget(ident):
    __threading__._active.pop(ident, None)


class _DummyThread(__threading__._DummyThread):
    """The thread object of a greenlet that `threading` did not start."""

    # Thread's own constructor allocates locks, and would do so in the hub; so nothing is left to it.
    _is_stopped = False
    _initialized = _daemonic = True
    _args = ()
    _kwargs = _target = _ident = _tstate_lock = None
    _started = __threading__.Event()
    _started.set()

    def __init__(self):
        self._name = __threading__._newname("Dummy-%d")
        self._set_ident()
        handle = _make_thread_handle(self._ident)
        if _HANDLE_NAME:
            setattr(self, _HANDLE_NAME, handle)
        self._native_id = __threading__.get_native_id()
        greenlet = getcurrent()
        ident = get_ident(greenlet)
        __threading__._active[ident] = self
        rawlink = getattr(greenlet, "rawlink", None)
        if rawlink is not None:
            rawlink(lambda _: _forget(ident))
        else:
            self._greenlet_ref = weakref.ref(greenlet, lambda _: _forget(ident))

    def _stop(self):
        pass

    def _wait_for_tstate_lock(self, *args, **kwargs):
        pass

    # After a fork such versions turn a dummy into the main thread by assigning its class, which loses ours.
    _NEEDS_CLASS_FORK_FIXUP = (3, 11, 8) <= sys.version_info < (3, 12) or sys.version_info >= (3, 12, 2)

    if _NEEDS_CLASS_FORK_FIXUP:
        @property
        def __class__(self):
            return type(self)

        @__class__.setter
        def __class__(self, new):
            if new is not __threading__._MainThread:
                object.__dict__["__class__"].__set__(self, new)


# How this version names the attribute for a thread's handle; None before 3.13.
_HANDLE_NAME = next(
    (name for name in ("_handle", "_os_thread_handle") if hasattr(__threading__.main_thread(), name)), None
)


class Thread(__threading__.Thread):
    """A thread that is a greenlet."""

    def _set_tstate_lock(self):
        # Before 3.13 join waits for a lock that the interpreter releases with the native thread.
        super()._set_tstate_lock()
        getcurrent().rawlink(self._on_greenlet_end)

    def _on_greenlet_end(self, _):
        if self._tstate_lock:
            self._tstate_lock.release()
            self._stop()


class Timer(Thread, __threading__.Timer):
    """A timer that is a greenlet."""


class _ForkHooks:
    """In a child the forking greenlet becomes the main thread, and the threads that were are done."""

    _active = None

    def before(self):
        self._active = dict(__threading__._active)

    def after_in_child(self):
        mine = get_ident()
        for ident, thread in (self._active or {}).items():
            handle = getattr(thread, _HANDLE_NAME, None) if _HANDLE_NAME and ident != mine else None
            if isinstance(handle, _ThreadHandle) and handle._had_greenlet:
                handle._set_done(enter_hub=False)
        self._active = None
        main = __threading__._MainThread()
        main._ident = mine
        __threading__._active[mine] = main
        __threading__._main_thread = main


_fork_hooks = _ForkHooks()


def _gevent_will_monkey_patch(native_module, items, warn):
    main = main_native_thread()
    if __threading__.current_thread() is not main:
        warn(
            "Monkey-patching outside the main native thread. Some APIs will not be available. "
            "Expect a KeyError to be printed at shutdown."
        )
        return
    mine = get_ident()
    if mine not in __threading__._active:
        del __threading__._active[main.ident]
        main._ident = mine
        __threading__._active[mine] = main
    os.register_at_fork(before=_fork_hooks.before, after_in_child=_fork_hooks.after_in_child)
