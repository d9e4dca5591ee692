"""Timeout: an exception that is raised in the greenlet that started it, after a while."""
from weald._core import Timeout, _set_no_timer

__all__ = ["Timeout", "with_timeout"]


class _NoTimer:
    """Stands for a timeout that never fires."""

    __slots__ = ()
    pending = active = False
    seconds = timer = exception = None

    def start(self, *args, **kwargs):
        raise AssertionError("non-expiring timer cannot be started")

    def stop(self):
        pass

    cancel = close = stop

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass


_FakeTimer = _NoTimer()
_set_no_timer(_FakeTimer)
_MISSING = object()


def with_timeout(seconds, function, *args, **kwds):
    """Calls the function; raises Timeout, or returns the keyword timeout_value, if it takes longer."""
    value = kwds.pop("timeout_value", _MISSING)
    timeout = Timeout.start_new(seconds, _one_shot=True)
    try:
        return function(*args, **kwds)
    except Timeout as late:
        if late is timeout and value is not _MISSING:
            return value
        raise
    finally:
        timeout.cancel()
