"""A thread's hub: the greenlet in which callbacks run, and what every greenlet has of it."""
import atexit
import os
import sys
from _thread import get_ident
from collections import deque
from functools import partial

from weald import _core
from weald._core import Greenlet, GreenletExit, Timeout, Waiter, get_hub_if_exists, getcurrent, greenlet, idle
from weald._core import set_hub, sleep, spawn_raw, wait_watcher
from weald.exceptions import (
    BlockingSwitchOutError, ConcurrentObjectUseError, HubDestroyed, InvalidSwitchError, InvalidThreadUseError, LoopExit,
)  # fmt: skip
from weald._config import config

GEVENT_CONFIG = config
__all__ = ["getcurrent", "GreenletExit", "spawn_raw", "sleep", "kill", "signal", "reinit", "get_hub", "Hub", "Waiter"]

_core._set_exceptions(LoopExit, BlockingSwitchOutError, InvalidSwitchError, ConcurrentObjectUseError,
                      InvalidThreadUseError, HubDestroyed)  # fmt: skip

MAIN_THREAD_IDENT = get_ident()
get_thread_ident = get_ident
get_hub = _core.get_hub
GreenletError = _core.error


def kill(greenlet, exception=GreenletExit):
    """Kills a greenlet of any kind, without waiting for its end."""
    if greenlet.dead:
        return
    if hasattr(greenlet, "kill"):
        greenlet.kill(exception=exception, block=False)
    else:
        get_hub().loop.run_callback(greenlet.throw, exception)


class signal:
    """signal_handler(signalnum, handler, *args, **kwargs): runs the handler in a greenlet when the signal comes."""

    #: what the handler runs in
    greenlet_class = Greenlet

    def __init__(self, signalnum, handler, *args, **kwargs):
        if not callable(handler):
            raise TypeError(f"a signal is handled by a callable, not by {handler!r}")
        self._call = partial(handler, *args, **kwargs)
        self.hub = hub = get_hub()
        self.watcher = hub.loop.signal(signalnum, ref=False)
        self.watcher.start(self._guarded, self._begin)

    @property
    def ref(self):
        """Whether the loop goes on for the sake of this alone."""
        return self.watcher.ref

    @ref.setter
    def ref(self, yes):
        self.watcher.ref = yes

    def cancel(self):
        """From now on the signal is not handled by this."""
        watcher, self.watcher = self.watcher, None
        self.hub = self._call = None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _begin(self):
        self.greenlet_class(self.handle).switch()

    def handle(self):
        """What runs in that greenlet."""
        self._guarded(self._call)

    def _guarded(self, step):
        # A handler may cancel this.
        hub = self.hub
        try:
            step()
        except:  # noqa: E722
            hub.handle_error(None, *sys.exc_info())


def reinit(hub=None):
    """In a forked child: tells what hangs on the hub. The library notices a fork by itself."""
    hub = get_hub_if_exists() if hub is None else hub
    if hub is None:
        return
    hub.loop.reinit()
    for part in (hub._threadpool, hub._resolver, hub.periodic_monitoring_thread):
        getattr(part, "_on_fork", lambda: None)()


def _print_exc(stream):
    from traceback import print_exc  # it takes a while to import, and most programs never need it

    print_exc(file=stream)


def _gmctime():
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Hub(_core.Hub):
    """The hub of a thread; `get_hub()` makes it. `loop`, `threadpool` and `resolver` hang on it."""

    #: Exceptions that end the program: they are raised in the main greenlet.
    SYSTEM_ERROR = (KeyboardInterrupt, SystemExit, SystemError)
    #: Exceptions that nobody is told of.
    NOT_ERROR = (GreenletExit, SystemExit)
    threadpool_size = 10
    periodic_monitoring_thread = None
    thread_ident = None
    name = ""
    _hub_counter = 0

    def __init__(self, loop=None, default=None):
        _core.Hub.__init__(self)
        self.thread_ident = get_ident()
        self.loop = self._choose_loop(loop, default)
        self.format_context = config.format_context
        self._ident_registry = self._threadpool = self._resolver = None
        Hub._hub_counter = self.minimal_ident = Hub._hub_counter + 1
        if config.monitor_thread:
            # When the loop first turns: who makes a hub and never waits needs nobody to watch it.
            self.loop.run_callback(self.start_periodic_monitoring_thread)

    def _choose_loop(self, given, default):
        """The loop that was given, or the thread's, or a new one, for which `given` are the flags."""
        if hasattr(given, "run"):
            if default is not None:
                raise TypeError("default is for a loop that the hub makes itself")
            return given
        kept = get_loop()
        if kept is not None:
            return kept
        if default is None and not self.main_hub:
            default = False
        return self.loop_class(flags=self.backend if given is None else given, default=default)

    @property
    def ident_registry(self):
        if self._ident_registry is None:
            from weald._gevent._ident import IdentRegistry

            self._ident_registry = IdentRegistry()
        return self._ident_registry

    @property
    def loop_class(self):
        return config.loop

    @property
    def backend(self):
        return config.libev_backend

    @property
    def main_hub(self):
        return self.thread_ident == MAIN_THREAD_IDENT

    def __repr__(self):
        if self.loop is None:
            info = "destroyed"
        else:
            try:
                info = self.loop._format()
            except Exception as e:
                info = str(e) or repr(e) or "error"
        text = f"<{type(self).__name__} {self.name!r} at {id(self):#x} {info}"
        if self._resolver is not None:
            text += f" resolver={self._resolver!r}"
        if self._threadpool is not None:
            text += f" threadpool={self._threadpool!r}"
        return f"{text} thread_ident={self.thread_ident:#x}>"

    # ---- waiting ----

    def wait(self, watcher):
        """Waits until the watcher, which must not be started, has fired."""
        if type(watcher) is _core.watcher:
            wait_watcher(watcher)
            return
        waiter = Waiter(self)
        watcher.start(waiter.switch, waiter)
        try:
            result = waiter.get()
            if result is not waiter:
                raise InvalidSwitchError(f"Invalid switch into {getcurrent()!r}: got {result!r}")
        finally:
            watcher.stop()

    def cancel_wait(self, watcher, error, close_watcher=False):
        """Throws `error` into who waits with the watcher."""
        if watcher is None:
            return
        if watcher.callback is not None:
            self.loop.run_callback(self._cancel_wait, watcher, error, close_watcher)
        elif close_watcher:
            watcher.close()

    def _cancel_wait(self, watcher, error, close_watcher):
        active, callback = watcher.active, watcher.callback
        if close_watcher:
            watcher.close()
        waiting = getattr(callback, "__self__", None) if active else None
        if waiting is not None:
            waiting.throw(error)

    def cancel_waits_close_and_then(self, watchers, exc_kind, then, *then_args):
        """Ends the waits with all the watchers, closes them, and calls `then`."""
        watchers = [watcher for watcher in watchers if watcher is not None]
        waited = [watcher for watcher in watchers if watcher.callback is not None]
        for idle_one in (watcher for watcher in watchers if watcher.callback is None):
            idle_one.close()
        if not waited:
            then(*then_args)
            return

        def throw_and_go_on():
            for watcher in waited:
                self._cancel_wait(watcher, exc_kind, close_watcher=True)
            then(*then_args)

        self.loop.run_callback(throw_and_go_on)

    # ---- errors ----

    def _normalize_exception(self, t, v, tb):
        if t is None and v is None and tb is None:
            t, v, tb = sys.exc_info()
        if isinstance(v, str):
            v = t(v)
        return t, v, tb

    def handle_error(self, context, type, value, tb):
        """Told of what nobody caught: prints it; what ends the program goes to the main greenlet. May be replaced."""
        type, value, tb = self._normalize_exception(type, value, tb)
        if type is HubDestroyed:
            raise value.with_traceback(tb)
        quiet, ends_all = issubclass(type, self.NOT_ERROR), context is None or issubclass(type, self.SYSTEM_ERROR)
        if not quiet:
            self.print_exception(context, type, value, tb)
        if ends_all:
            self.handle_system_error(type, value, tb)

    def handle_system_error(self, type, value, tb=None):
        """Raises the exception in the main greenlet."""
        current = getcurrent()
        if current is self or current is self.parent or self.loop is None:
            self.parent.throw(type, value, tb)
            return
        again = None
        try:
            again = self.loop.run_callback(current.switch)
        except:  # noqa: E722
            _print_exc(self.exception_stream)
        try:
            self.parent.throw(type, value, tb)
        finally:
            if again is not None:
                again.stop()

    @property
    def exception_stream(self):
        """Where exceptions are printed; sys.stderr if nothing else was set, None for nowhere."""
        if "_exception_stream" in self.__dict__:
            return self._exception_stream
        stderr = sys.stderr if sys else None
        if type(stderr).__name__ == "FileObjectThread":
            stderr = stderr.io
        return stderr

    @exception_stream.setter
    def exception_stream(self, stream):
        self._exception_stream = stream

    @exception_stream.deleter
    def exception_stream(self):
        del self._exception_stream

    def print_exception(self, context, t, v, tb):
        stream = self.exception_stream
        if not stream:
            return
        t, v, tb = self._normalize_exception(t, v, tb)
        if v is None:
            stream.write(f"{t.__name__}\n")
        else:
            from traceback import print_exception

            print_exception(t, v, tb, file=stream)
        del tb
        try:
            stream.write(_gmctime())
            stream.write(" " if context is not None else "\n")
        except:  # noqa: E722
            pass
        if context is not None:
            if not isinstance(context, str):
                try:
                    context = self.format_context(context)
                except:  # noqa: E722
                    _print_exc(stream)
                    context = repr(context)
            stream.write(f"{context} failed with {getattr(t, '__name__', 'exception')}\n\n")

    # ---- its end, and what hangs on it ----

    def start_periodic_monitoring_thread(self):
        if self.periodic_monitoring_thread is None and config.monitor_thread:
            from weald._monitor import PeriodicMonitoringThread
            from weald.events import PeriodicMonitorThreadStartedEvent, notify_and_call_entry_points

            self.periodic_monitoring_thread = PeriodicMonitoringThread(self)
            if self.main_hub:
                self.periodic_monitoring_thread.install_monitor_memory_usage()
            notify_and_call_entry_points(PeriodicMonitorThreadStartedEvent(self.periodic_monitoring_thread))
        return self.periodic_monitoring_thread

    def destroy(self, destroy_loop=None):
        """Ends what hangs on the hub; the next get_hub() makes another one."""
        for name, end in ("periodic_monitoring_thread", "kill"), ("_resolver", "close"), ("_threadpool", "kill"):
            part = getattr(self, name)
            if part is not None:
                getattr(part, end)()
                setattr(self, name, None)
        loop = self.loop
        keep_loop = loop.default if destroy_loop is None else not destroy_loop
        if keep_loop:
            # The thread's next hub goes on with it.
            set_loop(loop)
        else:
            if get_loop() is loop:
                set_loop(None)
            loop.destroy()
        self.loop = None
        if get_hub_if_exists() is self:
            set_hub(None)

    @property
    def resolver_class(self):
        return config.resolver

    @property
    def resolver(self):
        """What looks up names for the socket functions."""
        if self._resolver is None:
            self._resolver = self.resolver_class(hub=self)
        return self._resolver

    @resolver.setter
    def resolver(self, resolver):
        self._resolver = resolver

    @resolver.deleter
    def resolver(self):
        self._resolver = None

    @property
    def threadpool_class(self):
        return config.threadpool

    @property
    def threadpool(self):
        """Threads for what blocks."""
        if self._threadpool is None:
            self._threadpool = self.threadpool_class(
                self.threadpool_size, hub=self, idle_task_timeout=config.threadpool_idle_task_timeout
            )
        return self._threadpool

    @threadpool.setter
    def threadpool(self, pool):
        self._threadpool = pool

    @threadpool.deleter
    def threadpool(self):
        self._threadpool = None


# ---- which hub ----

_hub_class = Hub
_loops = {}


def get_hub_class():
    """What get_hub() makes in this thread."""
    return _hub_class


def set_default_hub_class(hubtype):
    """Has get_hub() make hubs of another class."""
    global _hub_class
    _hub_class = hubtype
    _core.set_hub_class(hubtype)


def get_loop():
    """The loop that the next hub of this thread will use, or None."""
    return _loops.get(get_ident())


def set_loop(loop):
    if loop is None:
        _loops.pop(get_ident(), None)
    else:
        _loops[get_ident()] = loop


_get_hub = get_hub_if_exists
_get_hub_noargs = get_hub
set_default_hub_class(Hub)
_core.set_tracking(bool(config.track_greenlet_tree), 10)
_core.set_inherit_context(config.inherit_context)
atexit.register(_core._shutdown)
os.register_at_fork(after_in_child=_core._after_fork)


class linkproxy:
    """Calls the callback with another object than the one that is linked to."""

    __slots__ = ("callback", "obj")

    def __init__(self, callback, obj):
        self.callback, self.obj = callback, obj

    def __call__(self, *args):
        callback, obj = self.callback, self.obj
        self.callback = self.obj = None
        callback(obj)


# ---- waiting for several ----


class _Ready:
    """The objects that are ready, in that order: an iterator, and a with block that ends the waiting early."""

    def __init__(self, hub, objects, timeout, count):
        self._hub, self._objects, self._timeout = hub, objects, timeout
        #: how many are still to be given out
        self._left = len(objects) if count is None else min(count, len(objects))
        self._came = deque()
        #: who is in __next__, with nothing there
        self._sleeper = None
        #: objects that are linked to us; None before the first __next__
        self._linked = None
        self._timer = None

    def _told(self, one):
        # In the hub. The timer tells of None.
        self._came.append(one)
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            sleeper.switch(None)

    def _link(self):
        self._linked = self._objects
        for one in self._objects:
            one.rawlink(self._told)
        if self._timeout is not None:
            # Of what is due at the same time the timer comes last.
            self._timer = self._hub.loop.timer(self._timeout, priority=-1)
            self._timer.start(self._told, None)

    def _unlink(self):
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()
        linked, self._linked, self._objects = self._linked or (), (), None
        for one in linked:
            try:
                getattr(one, "unlink", _nothing_to_unlink)(self._told)
            except:  # noqa: E722
                _print_exc(sys.stderr)

    def _take(self):
        while not self._came:
            self._sleeper = waiter = Waiter(self._hub)
            waiter.get()
        return self._came.popleft()

    def __iter__(self):
        return self

    def __next__(self):
        try:
            if self._linked is None:
                self._link()
            one = self._take() if self._left > 0 else None
        except:  # noqa: E722
            self._unlink()
            raise
        if one is None:
            self._left = 0
            self._unlink()
            raise StopIteration
        self._left -= 1
        return one

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._unlink()


def _nothing_to_unlink(_):
    pass


def iwait(objects=None, timeout=None, count=None):
    """Yields the objects as they become ready, until `count` of them have or the time is over."""
    if objects is not None:
        return _Ready(get_hub(), objects, timeout, count)
    return [get_hub().join(timeout=timeout)]


def wait(objects=None, timeout=None, count=None):
    """Waits for the objects, and returns those that are ready, in that order; None: until nothing is left to do."""
    if objects is None:
        return get_hub().join(timeout=timeout)
    return list(iwait(objects, timeout, count))


iwait_on_objects, wait_on_objects = iwait, wait
