"""The monitoring thread of a hub: it reports a greenlet that does not let others run, and memory above its limit."""
import os
import sys
from time import perf_counter
from weakref import ref

from weald._config import config as GEVENT_CONFIG
from weald._core import getcurrent
from weald._tracer import GreenletTracer
from weald.events import (
    EventLoopBlocked,
    IPeriodicMonitorThread,
    MemoryUsageThresholdExceeded,
    MemoryUsageUnderThreshold,
    implementer,
    notify,
)
from weald._patching import get_original

__all__ = ["PeriodicMonitoringThread"]

get_thread_ident, start_new_thread = get_original("_thread", ["get_ident", "start_new_thread"])
thread_sleep = get_original("time", "sleep")


class MonitorWarning(RuntimeWarning):
    """The monitoring thread can not do what it was asked to."""


class _Periodic:
    """A function that is called every `period` seconds; period 0 or less: not for now."""

    __slots__ = ("function", "period", "last_run_time")

    def __init__(self, function, period):
        self.function, self.period, self.last_run_time = function, period, 0

    def __repr__(self):
        return f"<{self.function!r} every {self.period} s, last at {self.last_run_time}>"


@implementer(IPeriodicMonitorThread)
class PeriodicMonitoringThread:
    """Made in the hub's thread; runs in one of its own until the hub is gone, or `kill`."""

    inactive_sleep_time = 2.0
    min_sleep_time = 0.005
    min_memory_monitor_period = 2
    _memory_exceeded = 0

    def __init__(self, hub):
        self._hub_wref = ref(hub, lambda _: self.kill())
        self.should_run = True
        assert get_thread_ident() == hub.thread_ident
        self._greenlet_tracer = GreenletTracer()
        period = GEVENT_CONFIG.max_blocking_time
        self._monitoring_functions = [_Periodic(self.monitor_blocking, period)]
        self._calculated_sleep_time = period
        self.pid = os.getpid()
        self.monitor_thread_ident = start_new_thread(self, ())

    def _on_fork(self):
        if os.getpid() != self.pid:
            self.pid = os.getpid()
            self.monitor_thread_ident = start_new_thread(self, ())

    @property
    def hub(self):
        return self._hub_wref()

    def __repr__(self):
        return (
            f"<{type(self).__name__} at {id(self):#x} in thread {self.monitor_thread_ident:#x} "
            f"greenlet {getcurrent()!r} for {self._hub_wref()!r}>"
        )

    # ---- what is called, and when ----

    def _reckon(self):
        self._calculated_sleep_time = min(entry.period for entry in self._monitoring_functions)

    def monitoring_functions(self):
        """What is called; the first looks for blocking, as often as the setting says by now."""
        blocking, period = self._monitoring_functions[0], GEVENT_CONFIG.max_blocking_time
        if blocking.period != period:
            blocking.period = period
            self._reckon()
        return self._monitoring_functions

    def add_monitoring_function(self, function, period):
        """Calls function(hub) every `period` seconds from now on; None removes it."""
        if not callable(function):
            raise ValueError("function must be callable")
        entries = self._monitoring_functions
        if period is None:
            entries = [entry for entry in entries if entry.function != function]
        elif period <= 0:
            raise ValueError("Period must be positive.")
        else:
            new = _Periodic(function, period)
            replaced = [new if entry.function == function else entry for entry in entries]
            entries = replaced if new in replaced else [*entries, new]
        # Replaced and never changed: the other thread may be reading it.
        self._monitoring_functions = entries
        self._reckon()

    def calculate_sleep_time(self):
        shortest = self._calculated_sleep_time
        # Nothing to do now; settings may change.
        return self.inactive_sleep_time if shortest <= 0 else max(shortest, self.min_sleep_time)

    def kill(self):
        if self.should_run:
            self.should_run = False
            self._greenlet_tracer.kill()

    def __call__(self):
        getcurrent().gevent_monitoring_thread = ref(self)
        try:
            while self.should_run:
                functions = self.monitoring_functions()
                thread_sleep(self.calculate_sleep_time())
                hub = self.hub
                # A hub that has ended is false.
                if not hub:
                    self.kill()
                if self.should_run:
                    now = perf_counter()
                    for entry in functions:
                        if entry.period and entry.last_run_time + entry.period <= now:
                            entry.last_run_time = now
                            entry.function(hub)
                # Not held while it sleeps.
                del hub
        except SystemExit:
            pass
        except BaseException:
            # At the end of the interpreter modules are already empty.
            if sys and sys.stderr and self.hub is not None:
                self.hub.handle_error(self, *sys.exc_info())

    # ---- blocking ----

    def monitor_blocking(self, hub):
        blocked = self._greenlet_tracer.did_block_hub(hub)
        if not blocked:
            return None
        greenlet = blocked[1]
        report = self._greenlet_tracer.did_block_hub_report(
            hub, greenlet, {"greenlet_stacks": False, "current_thread_ident": self.monitor_thread_ident}
        )
        notify(EventLoopBlocked(greenlet, GEVENT_CONFIG.max_blocking_time, report, hub=hub))
        if GEVENT_CONFIG.print_blocking_reports:
            for line in report:
                print(line, file=hub.exception_stream)
        return greenlet, report

    def ignore_current_greenlet_blocking(self):
        """Called by who knows that it will take long."""
        self._greenlet_tracer.ignore_current_greenlet_blocking()

    def monitor_current_greenlet_blocking(self):
        """Undoes the former."""
        self._greenlet_tracer.monitor_current_greenlet_blocking()

    # ---- memory ----

    def _get_process(self):
        process = _this_process()
        self._get_process = lambda: process
        return process

    def can_monitor_memory_usage(self):
        return self._get_process() is not None

    def install_monitor_memory_usage(self):
        if not self.can_monitor_memory_usage():
            import warnings

            warnings.warn("Unable to monitor memory usage. Install psutil.", MonitorWarning)
            return
        period = max(GEVENT_CONFIG.memory_monitor_period, self.min_memory_monitor_period)
        self.add_monitoring_function(self.monitor_memory_usage, period)

    def monitor_memory_usage(self, _hub):
        """Sends an event if the limit is exceeded, and each time that it grows; and one when it is not any more."""
        limit = GEVENT_CONFIG.max_memory_usage
        if not limit:
            return -1
        info = self._get_process().memory_full_info()
        used = getattr(info, "uss", 0) or info.rss
        event = None
        if used > limit:
            if used > self._memory_exceeded:
                event = MemoryUsageThresholdExceeded(used, limit, info)
            self._memory_exceeded = used
        elif self._memory_exceeded:
            event = MemoryUsageUnderThreshold(used, limit, info, self._memory_exceeded)
            self._memory_exceeded = 0
        if event is not None:
            notify(event)
        return event


def _this_process():
    """This process as psutil sees it, or None."""
    try:
        from psutil import AccessDenied, Process
    except ImportError:
        return None
    try:
        process = Process()
        process.memory_full_info()
    except AccessDenied:
        return None
    return process
