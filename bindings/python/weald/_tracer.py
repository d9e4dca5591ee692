"""Tracers: they are told of every switch of their thread, and know whether there was one lately."""
import sys
import time
import traceback
from time import perf_counter

from weald._core import getcurrent, settrace
from weald._run_info import format_run_info

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
        """Gives the thread back to the tracer that was there before."""
        if self._killed:
            return
        self._killed = True
        before, self.previous_trace_function = self.previous_trace_function, None
        settrace(before)

    def __call__(self, event, args):
        was = self.active_greenlet
        self.active_greenlet = args[1] if event in ("switch", "throw") else None
        self.greenlet_switch_counter += 1
        before = self.previous_trace_function
        if before is not None:
            before(event, args)
        self._switched(was)

    def _switched(self, was):
        """For a subclass: active_greenlet runs now, and `was` did before."""

    def did_block_hub(self, hub):
        """(True, greenlet) if that one has run since the last look without a switch."""
        greenlet, switched = self.active_greenlet, self.greenlet_switch_counter
        self.greenlet_switch_counter = 0
        if switched or greenlet is None or greenlet is hub:
            return False
        return True, greenlet

    def monitor_current_greenlet_blocking(self):
        """Takes notice of the caller, as if it had just been switched to."""
        self.active_greenlet = getcurrent()

    def ignore_current_greenlet_blocking(self):
        """Does not report whoever runs now, until the next switch."""
        self.active_greenlet = None

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

    def _switched(self, was):
        if self.active_greenlet is self.hub:
            self.last_entered_hub = perf_counter()

    def did_block_hub(self, hub):
        away = perf_counter() - self.last_entered_hub
        return (True, self.active_greenlet) if away > self.max_blocking_time else None


class MaxSwitchTracer(_LimitTracer):
    """Says that the hub was blocked if any greenlet ran for longer than max_blocking_time."""

    def __init__(self, hub, max_blocking_time):
        super().__init__(hub, max_blocking_time)
        self.last_switch = perf_counter()
        self.max_blocking = 0

    def _switched(self, was):
        now = perf_counter()
        if was is not None and was is not self.hub:
            self.max_blocking = max(self.max_blocking, now - self.last_switch)
        self.last_switch = now

    def did_block_hub(self, hub):
        longest = self.max_blocking = self.max_blocking or perf_counter() - self.last_switch
        return (True, self.active_greenlet) if longest > self.max_blocking_time else None


def tracer_for(hub, max_blocking_time, hub_only):
    """The tracer for a limit, or, without one, for any switch at all."""
    if not max_blocking_time:
        return GreenletTracer()
    return (HubSwitchTracer if hub_only else MaxSwitchTracer)(hub, max_blocking_time)
