"""Looking at what runs: print_run_info and GreenletTree; failures that can be pickled; small helpers for tests."""
import functools
from time import perf_counter

from weald._failure import Failure, Unpicklable, dump_traceback, load_traceback  # noqa: F401
from weald._run_info import GreenletTree, dump_stacks, format_run_info, is_idle_threadpool_worker, print_run_info  # noqa: F401
from weald._tracer import tracer_for
from weald.hub import get_hub

__all__ = ["format_run_info", "print_run_info", "GreenletTree", "wrap_errors", "assert_switches", "Failure"]


class wrap_errors:
    """wrap_errors(errors, func) is func, but it returns such exceptions instead of raising them."""

    def __init__(self, errors, func):
        self._errors, self._wrapped = errors, func
        functools.update_wrapper(self, func)

    def __call__(self, *args, **kwargs):
        try:
            return self._wrapped(*args, **kwargs)
        except self._errors as problem:
            return problem

    def __getattr__(self, name):
        # What the function does not have, or we, when half made, have not yet.
        if name == "_wrapped":
            raise AttributeError(name)
        return getattr(self._wrapped, name)

    def __repr__(self):
        return repr(self._wrapped)

    def __str__(self):
        return str(self._wrapped)


# ---- for tests ----


class _FailedToSwitch(AssertionError):
    pass


class assert_switches:
    """A with block in which no switch happens raises AssertionError at its end.

    With max_blocking_time, a block in which a greenlet ran for longer than that between two switches, or, with
    hub_only, between two visits to the hub.
    """

    hub = tracer = None

    def __init__(self, max_blocking_time=None, hub_only=False):
        self.max_blocking_time, self.hub_only = max_blocking_time, hub_only

    def __enter__(self):
        self.hub = get_hub()
        self.tracer = tracer_for(self.hub, self.max_blocking_time, self.hub_only)
        self._entered = perf_counter()
        self.tracer.monitor_current_greenlet_blocking()
        return self

    def __exit__(self, kind, value, tb):
        hub, tracer = self.hub, self.tracer
        self.hub = self.tracer = None
        tracer.kill()
        if kind is not None:
            return
        blocked = tracer.did_block_hub(hub)
        if not blocked:
            return
        message = "To the hub" if self.hub_only else "To any greenlet"
        message += f" in {perf_counter() - self._entered:.4f} seconds"
        if self.max_blocking_time:
            message += f" (max allowed {self.max_blocking_time:.4f} seconds)"
        raise _FailedToSwitch("\n".join([message, *tracer.did_block_hub_report(hub, blocked[1], {})]))


def clear_stack_frames(frame):
    """Drops the local variables of a frame and of all that called it, as far as they let go."""
    while frame is not None:
        _clear(frame)
        _clear(frame.f_locals)
        frame = frame.f_back


def _clear(frame_or_locals):
    try:
        frame_or_locals.clear()
    except (RuntimeError, AttributeError):
        # A frame that runs; a view of locals that can not be emptied.
        pass
