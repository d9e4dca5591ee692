"""Waiting for a descriptor: the one place where sockets, files and pipes meet the hub.

A watcher (`loop.io(fd, events)`) has one waiter at a time. `cancel_wait` ends a wait with an exception, so that
closing a descriptor frees whoever waits for it.
"""
import errno

from weald import _core
from weald.exceptions import ConcurrentObjectUseError
from weald.hub import get_hub
from weald.timeout import Timeout

READ, WRITE = 1, 2


class Missing:
    """The default of an argument for which None means something."""

    def __repr__(self):
        return "<default value>"


MISSING = Missing()


class cancel_wait_ex(OSError):
    """What a waiter gets whose descriptor was closed by another greenlet."""

    def __init__(self):
        super().__init__(errno.EBADF, "File descriptor was closed in another greenlet")


_core.set_cancelled(cancel_wait_ex)


def wait(watcher, timeout=None, timeout_exc=MISSING, hub=None):
    """Waits until the watcher sees its event. After `timeout` seconds raises `timeout_exc`, by default TimeoutError."""
    if watcher.callback is not None:
        raise ConcurrentObjectUseError(f"This socket is already used by another greenlet: {watcher.callback!r}")
    hub = get_hub() if hub is None else hub
    # A Timeout is the caller's own, and running already: it raises itself.
    if timeout is None or isinstance(timeout, Timeout):
        hub.wait(watcher)
    else:
        with Timeout(timeout, TimeoutError("timed out") if timeout_exc is MISSING else timeout_exc):
            hub.wait(watcher)


def _wait_with(fileno, events, timeout, timeout_exc=MISSING):
    """Waits for a descriptor where the core does not know what to raise: the caller's exception, or his Timeout."""
    if timeout_exc is MISSING and not isinstance(timeout, Timeout):
        _core.wait_fd(fileno, events, timeout)
        return
    with Timeout._start_new_or_dummy(timeout, None if timeout_exc is MISSING else timeout_exc):
        _core.wait_fd(fileno, events, None)


_core._set_wait_with(_wait_with)
wait_read, wait_write, wait_readwrite = _core.wait_read, _core.wait_write, _core.wait_readwrite


def cancel_wait(watcher, error=cancel_wait_ex):
    """Makes whoever waits with the watcher raise `error`."""
    get_hub().cancel_wait(watcher, error)


def close_fd(watchers, close, *args):
    """Closes the watchers, frees those who wait with them, and calls close(*args), which closes their descriptor.

    Where somebody waits with a watcher that is put off to the loop: a descriptor must outlive the waits for it, lest
    they see what gets its number next. Waits in the core are ended by _core.close_fd.
    """
    get_hub().cancel_waits_close_and_then(watchers, cancel_wait_ex, close, *args)
