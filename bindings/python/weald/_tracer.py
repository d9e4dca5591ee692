"""Tracers: they are told of every switch of their thread, and know whether there was one lately."""
import sys
import time
import traceback
from time import perf_counter

from weald.greenlet import getcurrent, settrace
from weald.util import format_run_info

__all__ = ["GreenletTracer", "HubSwitchTracer", "MaxSwitchTracer"]


class GreenletTracer:
    """Counts switches. Calls whichever tracer was there before."""

    def __init__(self):
        #: since the last look
        self.greenlet_switch_counter = 0
        #: who runs, or None if that is not known, or shall not be reported
        self.active_greenlet = None
        self._killed = False
        self.previous_trace_function = settrace(self)

    def kill(self):
        if not self._killed:
            self._killed = True
            settrace(self.previous_trace_function)
            self.previous_trace_function = None

    def _trace(self, event, args):
        self.greenlet_switch_counter += 1
        self.active_greenlet = args[1] if event in ("switch", "throw") else None
        if self.previous_trace_function is not None:
            self.previous_trace_function(event, args)

    def __call__(self, event, args):
        return self._trace(event, args)

    def did_block_hub(self, hub):
        """(True, greenlet) if that one has run since the last look without a switch."""
        greenlet, switched = self.active_greenlet, self.greenlet_switch_counter
        self.greenlet_switch_counter = 0
        if switched or greenlet is None or greenlet is hub:
            return False
        return True, greenlet

    def ignore_current_greenlet_blocking(self):
        self.active_greenlet = None

    def monitor_current_greenlet_blocking(self):
        self.active_greenlet = getcurrent()

    def did_block_hub_report(self, hub, active_greenlet, format_kwargs):
        """Lines of a report: who blocks, where, and what else there is."""
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        frame = sys._current_frames().get(hub.thread_ident)
        if frame is None:
            stack = f"Unknown: No thread found for hub {hub!r}\n"
        else:
            stack = "".join(traceback.format_stack(frame))
        return [
            "=" * 80,
            f"\n{when} : Greenlet {active_greenlet} appears to be blocked",
            f"    Reported by {self}",
            f"Blocked Stack (for thread id {hub.thread_ident:#x}):",
            stack,
            "Info:",
            *format_run_info(**format_kwargs),
        ]


class _LimitTracer(GreenletTracer):
    def __init__(self, hub, max_blocking_time):
        super().__init__()
        self.hub = hub
        self.max_blocking_time = max_blocking_time

    def kill(self):
        self.hub = None
        super().kill()


class HubSwitchTracer(_LimitTracer):
    """Says that the hub was blocked if it did not run for max_blocking_time."""

    def __init__(self, hub, max_blocking_time):
        super().__init__(hub, max_blocking_time)
        self.last_entered_hub = 0

    def _trace(self, event, args):
        super()._trace(event, args)
        if self.active_greenlet is self.hub:
            self.last_entered_hub = perf_counter()

    def did_block_hub(self, hub):
        if perf_counter() - self.last_entered_hub > self.max_blocking_time:
            return True, self.active_greenlet
        return None


class MaxSwitchTracer(_LimitTracer):
    """Says that the hub was blocked if any greenlet ran for longer than max_blocking_time."""

    def __init__(self, hub, max_blocking_time):
        super().__init__(hub, max_blocking_time)
        self.last_switch = perf_counter()
        self.max_blocking = 0

    def _trace(self, event, args):
        before = self.active_greenlet
        super()._trace(event, args)
        if before is not None and before is not self.hub:
            self.max_blocking = max(self.max_blocking, perf_counter() - self.last_switch)
        self.last_switch = perf_counter()

    def did_block_hub(self, hub):
        if not self.max_blocking:
            self.max_blocking = perf_counter() - self.last_switch
        if self.max_blocking > self.max_blocking_time:
            return True, self.active_greenlet
        return None
