"""The standard module `signal`, where a handler of SIGCHLD is called for the children that `weald.os.fork` made.

The loop owns SIGCHLD, so such a handler is not given to the system: it runs in a greenlet of its own when a watched
child has ended. All other signals are the interpreter's. See weald.signal_handler for handlers that may wait.
"""
import signal as _signal

import weald.os
from weald import _core
from weald._names import take

_UNKNOWN = object()
_child_handler = _UNKNOWN
_child_wakeup_fd = -1
_child_wakeup_warns = None

_signal_signal = _signal.signal
_signal_getsignal = _signal.getsignal


def getsignal(signalnum):
    """signal.getsignal; for SIGCHLD, what `signal` here was given."""
    global _child_handler
    if signalnum != _signal.SIGCHLD:
        return _signal_getsignal(signalnum)
    if _child_handler is _UNKNOWN:
        _child_handler = _signal_getsignal(_signal.SIGCHLD)
    return _child_handler


def signal(signalnum, handler):
    """signal.signal; a handler of SIGCHLD is called for watched children."""
    global _child_handler
    if signalnum != _signal.SIGCHLD:
        return _signal_signal(signalnum, handler)
    ignored = handler in (_signal.SIG_IGN, _signal.SIG_DFL)
    if not ignored and not callable(handler):
        raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
    previous = getsignal(signalnum)
    _child_handler = handler
    if ignored:
        from weald.hub import get_hub

        _signal_signal(signalnum, handler)
        get_hub().loop.reset_sigchld()
    return previous


def set_wakeup_fd(fd, /, *, warn_on_full_buffer=True):
    """signal.set_wakeup_fd; SIGCHLD of a watched child is written there as well. The loop's own is not shown."""
    global _child_wakeup_fd, _child_wakeup_warns
    ours = _core.signal_fd()
    if fd == -1:
        previous = _signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
    else:
        previous = _signal.set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    _child_wakeup_fd, _child_wakeup_warns = fd, warn_on_full_buffer
    return -1 if previous == ours else previous


def _write_wakeup(fd, warns):
    try:
        weald.os._write(fd, bytes((_signal.SIGCHLD,)))
    except OSError as problem:
        if warns or problem.errno not in weald.os.ignored_errors:
            from weald.hub import get_hub

            get_hub().handle_error("set_wakeup_fd", type(problem), problem, problem.__traceback__)


def _on_child_hook():
    from weald.greenlet import Greenlet

    if callable(_child_handler):
        if _child_wakeup_fd >= 0:
            Greenlet(_write_wakeup, _child_wakeup_fd, _child_wakeup_warns).switch()
        Greenlet(_child_handler, _signal.SIGCHLD, None).switch()


__implements__ = []
__extensions__ = []
if "waitpid" in weald.os.__implements__:
    weald.os._on_child_hook = _on_child_hook
    __implements__ += ["signal", "getsignal", "set_wakeup_fd"]
else:
    __extensions__ += ["signal", "getsignal", "set_wakeup_fd"]
__imports__ = take(_signal, globals(), leave=__implements__ + __extensions__)
__all__ = __implements__ + __extensions__
