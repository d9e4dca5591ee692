"""Patching threads, for weald.monkey: what a running interpreter already knows of its main thread must be changed too.

The main thread becomes the main greenlet: its ident is that greenlet's, other greenlets can join it, and at the end
they run on until it has waited for them. What differs between versions of Python is in the two methods that begin
with _main_; before 3.13 `join` waits for a lock, from 3.13 on for a handle.
"""
import sys

from weald._on_import import when_imported
from weald.exceptions import LoopExit
from weald._patching import announce, is_object_patched, patch_item, patch_our_module, warn

_PY313 = sys.version_info >= (3, 13)


class Patch:
    def __init__(self, threading, threading_local, event, logging, existing_locks, warnings):
        self._wants = threading, threading_local, event, logging, existing_locks
        self._warnings = warnings

    def apply(self):
        from weald import events

        threading, threading_local, event, logging, existing_locks = self._wants
        # It copies names from _thread when it is first imported: that must be the real ones.
        import threading as standard

        self._threading = standard
        before = standard.current_thread()
        self._main = standard.main_thread()
        self._shutdown = standard._shutdown
        ours, target = patch_our_module("thread", _warnings=self._warnings, _notify_did_subscribers=False)
        ours_threading = None
        if threading:
            ours_threading, _ = patch_our_module("threading", _warnings=self._warnings, _notify_did_subscribers=False)
            if event:
                self._patch_event()
            if existing_locks:
                self._take_over_locks()
            if logging and "logging" in sys.modules:
                self._patch_logging()
        if threading_local:
            import _threading_local

            from weald.local import local

            patch_item(_threading_local, "local", local)
        if threading:
            self._patch_active_threads()
        if not is_object_patched("threading", "_shutdown"):
            if before is self._main:
                self._main_shutdown_313() if _PY313 else self._main_shutdown()
                self._rename_main()
            else:
                self._shutdown_elsewhere()
        announce(events.GeventDidPatchModuleEvent("thread", ours, target))
        if ours_threading is not None:
            announce(events.GeventDidPatchModuleEvent("threading", ours_threading, standard))

    # ---- locks ----

    def _patch_event(self):
        from weald.event import Event

        patch_item(self._threading, "Event", Event)

    def _take_over_locks(self):
        """Locks that the main thread holds belong to its greenlet from now on."""
        threading = self._threading
        if len(threading.enumerate()) != 1:
            return
        # Registered with os.register_at_fork, which can not be undone. So the fork handlers get a lock of ours that
        # nobody else holds, or a fork while an executor starts a thread would wait for ever.
        def free_executors(executor):
            if hasattr(executor, "_global_shutdown_lock"):
                executor._global_shutdown_lock = threading._allocate_lock()

        when_imported("concurrent.futures.thread", free_executors)
        threading._active_limbo_lock = threading._allocate_lock()
        import gc
        from importlib._bootstrap import _ModuleLock

        ident = threading.get_ident()
        rlock = threading._PyRLock  # the one in C knows its owner by the native thread, and so is not ours to change
        for found in gc.get_objects():
            if isinstance(found, rlock) and getattr(found, "_owner", None) is not None:
                found._owner = ident
            elif isinstance(found, _ModuleLock) and found.owner is not None:
                found.owner = ident

    def _patch_logging(self):
        import logging

        patch_item(logging, "_lock", self._threading.RLock())
        for reference in logging._handlerList:
            handler = reference() if callable(reference) else reference
            if handler is not None:
                handler.lock = self._threading.RLock()

    # ---- threads that are running ----

    def _patch_active_threads(self):
        """A greenlet can not wait for a native thread's lock; so it looks, and sleeps."""
        threading = self._threading
        for thread in threading._active.values():
            if thread is not self._main:
                thread.join = _joiner(thread, threading)
            elif _PY313:
                self._give_main_a_handle()

    def _give_main_a_handle(self):
        from weald.hub import getcurrent
        from weald.thread import _ThreadHandle

        handle = _ThreadHandle()
        handle._set_greenlet(getcurrent())
        self._main._after_fork = lambda new_ident=None: new_ident
        setattr(self._main, _handle_name(self._main), handle)
        self._main._ident = handle.ident

    def _rename_main(self):
        main, threading = self._main, self._threading
        # A cycle is made below, and `threading` counts what is left over of main threads.
        threading._dangling.discard(main)
        old, new = main.ident, threading.get_ident()
        main._ident = new
        if old in threading._active:
            threading._active[new] = threading._active[old]
        if old != new:
            threading._active.pop(old, None)

    # ---- the end of the main thread ----

    def _restore_shutdown(self):
        try:
            self._shutdown()
        except LoopExit:
            # A thread that nothing will ever wake.
            pass
        patch_item(self._threading, "_shutdown", self._shutdown)

    def _let_others_see(self, greenlet):
        from weald.hub import get_hub, sleep

        try:
            sleep(0)
        except BaseException:
            # Somebody killed the main greenlet, and there is nowhere else for that to go.
            get_hub().print_exception(greenlet, *sys.exc_info())

    def _main_shutdown(self):
        """Before 3.13: who joins the main thread waits for its _tstate_lock, so that becomes one of ours."""
        from weald.hub import getcurrent

        main, threading = self._main, self._threading
        greenlet = main._greenlet = getcurrent()
        real = main._gevent_real_tstate_lock = main._tstate_lock
        main._tstate_lock = threading.Lock()
        main._tstate_lock.acquire()

        def _shutdown():
            if not main._tstate_lock:
                return
            main._tstate_lock.release()
            self._let_others_see(greenlet)
            # Those who joined have marked it as stopped; the interpreter's own shutdown wants to do that, with the
            # lock that it knows.
            main._is_stopped = False
            main._tstate_lock = real
            main._gevent_real_tstate_lock = None
            self._restore_shutdown()

        patch_item(threading, "_shutdown", _shutdown)

    def _main_shutdown_313(self):
        """From 3.13 on: who joins the main thread waits for its handle."""
        from weald.hub import getcurrent

        main, threading = self._main, self._threading
        greenlet = main._greenlet = getcurrent()
        name = _handle_name(main)

        class Running:
            def is_done(self):
                return False

            def _set_done(self):
                pass

            def join(self, timeout=None):
                pass

        def _shutdown():
            getattr(main, name)._set_done()
            self._let_others_see(greenlet)
            setattr(main, name, Running())
            # These stop the workers of executors, and so come before waiting for them.
            threading._SHUTTING_DOWN = True
            for call in reversed(threading._threading_atexits):
                call()
            threading._threading_atexits.clear()
            for thread in threading.enumerate():
                if thread.daemon or thread is main:
                    continue
                while thread.is_alive():
                    handle = getattr(thread, name)
                    try:
                        handle.join(0.001)
                    except RuntimeError:
                        # It is the one that runs this.
                        handle._set_done()
                        break
            self._restore_shutdown()

        patch_item(threading, "_shutdown", _shutdown)

    def _shutdown_elsewhere(self):
        warn(
            "Monkey-patching not on the main thread; threading.main_thread().join() will hang from a greenlet",
            self._warnings,
        )
        main, threading = self._main, self._threading

        def _shutdown():
            # Only with its ident does the main thread release the locks that shutdown waits for.
            main._ident = threading.get_ident()
            self._restore_shutdown()

        patch_item(threading, "_shutdown", _shutdown)


def _handle_name(thread):
    return "_os_thread_handle" if hasattr(thread, "_os_thread_handle") else "_handle"


def _joiner(thread, threading):
    """A join for a native thread that greenlets may call."""
    from time import monotonic

    from weald.hub import sleep

    def join(timeout=None):
        if threading.current_thread() is thread:
            raise RuntimeError("Cannot join current thread")
        end = monotonic() + timeout if timeout else None
        while thread.is_alive() and (end is None or monotonic() < end):
            sleep(0.01)

    return join
