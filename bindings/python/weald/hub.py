"""A thread's hub: the greenlet in which callbacks run, and what every greenlet has of it."""
import atexit
import os
import sys
from _thread import get_ident

from weald import _core
from weald._core import Greenlet, GreenletExit, Timeout, Waiter, get_hub_if_exists, getcurrent, greenlet, idle
from weald._core import set_hub, sleep, spawn_raw, wait_watcher
from weald.exceptions import (
    BlockingSwitchOutError, ConcurrentObjectUseError, HubDestroyed, InvalidSwitchError, InvalidThreadUseError, LoopExit,
)  # fmt: skip
from weald._config import config

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

    greenlet_class = None

    def __init__(self, signalnum, handler, *args, **kwargs):
        if not callable(handler):
            raise TypeError("signal handler must be callable.")
        self.hub = get_hub()
        self.watcher = self.hub.loop.signal(signalnum, ref=False)
        self.handler, self.args, self.kwargs = handler, args, kwargs
        if self.greenlet_class is None:
            self.greenlet_class = Greenlet
        self.watcher.start(self._start)

    @property
    def ref(self):
        return self.watcher.ref

    @ref.setter
    def ref(self, yes):
        self.watcher.ref = yes

    def cancel(self):
        """From now on the signal is not handled by this."""
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher.close()
        self.watcher = self.handler = self.args = self.kwargs = self.hub = self.greenlet_class = None

    def _start(self):
        try:
            self.greenlet_class(self.handle).switch()
        except:  # noqa: E722
            self.hub.handle_error(None, *sys.exc_info())

    def handle(self):
        try:
            self.handler(*self.args, **self.kwargs)
        except:  # noqa: E722
            self.hub.handle_error(None, *sys.exc_info())


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
        if hasattr(loop, "run"):
            if default is not None:
                raise TypeError("Unexpected argument: default")
            self.loop = loop
        elif get_loop() is not None:
            self.loop = get_loop()
        else:
            if default is None and self.thread_ident != MAIN_THREAD_IDENT:
                default = False
            self.loop = self.loop_class(flags=loop if loop is not None else self.backend, default=default)
        self._resolver = self._threadpool = self._ident_registry = None
        self.format_context = config.format_context
        Hub._hub_counter += 1
        self.minimal_ident = Hub._hub_counter
        if config.monitor_thread:
            # When the loop first turns: who makes a hub and never waits needs nobody to watch it.
            self.loop.run_callback(self.start_periodic_monitoring_thread)

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
        waited = []
        for watcher in watchers:
            if watcher is None:
                continue
            if watcher.callback is None:
                watcher.close()
            else:
                waited.append(watcher)
        if waited:
            self.loop.run_callback(self._cancel_waits_then, waited, exc_kind, then, then_args)
        else:
            then(*then_args)

    def _cancel_waits_then(self, watchers, exc_kind, then, then_args):
        for watcher in watchers:
            self._cancel_wait(watcher, exc_kind, True)
        then(*then_args)

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
        if not issubclass(type, self.NOT_ERROR):
            self.print_exception(context, type, value, tb)
        if context is None or issubclass(type, self.SYSTEM_ERROR):
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
        if destroy_loop is None:
            destroy_loop = not self.loop.default
        if self.periodic_monitoring_thread is not None:
            self.periodic_monitoring_thread.kill()
            self.periodic_monitoring_thread = None
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None
        if self._threadpool is not None:
            self._threadpool.kill()
            self._threadpool = None
        if destroy_loop:
            if get_loop() is self.loop:
                set_loop(None)
            self.loop.destroy()
        else:
            set_loop(self.loop)
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


def set_default_hub_class(hub_class):
    """Has get_hub() make hubs of another class."""
    global _hub_class
    _hub_class = hub_class
    _core.set_hub_class(hub_class)


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


class _MultipleWaiter(Waiter):
    """Collects all that is switched to it."""

    __slots__ = ("_values",)

    def __init__(self, hub=None):
        Waiter.__init__(self, hub)
        self._values = []

    def switch(self, value):
        self._values.append(value)
        Waiter.switch(self, True)

    def get(self):
        if not self._values:
            Waiter.get(self)
            Waiter.clear(self)
        return self._values.pop(0)


class _WaitIterator:
    def __init__(self, objects, hub, timeout, count):
        self._hub = hub
        self._waiter = _MultipleWaiter(hub)
        self._switch = self._waiter.switch
        self._timeout = timeout
        self._objects = objects
        self._timer = None
        self._begun = False
        self._count = len(objects) if count is None else min(count, len(objects))

    def _begin(self):
        self._begun = True
        for one in self._objects:
            one.rawlink(self._switch)
        if self._timeout is not None:
            self._timer = self._hub.loop.timer(self._timeout, priority=-1)
            self._timer.start(self._switch, self)

    def __iter__(self):
        return self

    def __next__(self):
        if not self._begun:
            self._begin()
        if self._count == 0:
            self._cleanup()
            raise StopIteration()
        self._count -= 1
        try:
            item = self._waiter.get()
            self._waiter.clear()
            if item is self:
                raise StopIteration()
            return item
        except:  # noqa: E722
            self._cleanup()
            raise

    def _cleanup(self):
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        objects, self._objects = self._objects, ()
        for one in objects:
            unlink = getattr(one, "unlink", None)
            if unlink is not None:
                try:
                    unlink(self._switch)
                except:  # noqa: E722
                    _print_exc(sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._cleanup()


def iwait(objects=None, timeout=None, count=None):
    """Yields the objects as they become ready, until `count` of them have or the time is over."""
    hub = get_hub()
    if objects is None:
        return [hub.join(timeout=timeout)]
    return _WaitIterator(objects, hub, timeout, count)


def wait(objects=None, timeout=None, count=None):
    """Waits for the objects, and returns those that are ready, in that order; None: until nothing is left to do."""
    if objects is None:
        return get_hub().join(timeout=timeout)
    return list(iwait(objects, timeout, count))


iwait_on_objects, wait_on_objects = iwait, wait
