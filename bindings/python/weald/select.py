"""The standard module `select`, where only the calling greenlet waits.

The kernel is asked first, without waiting; if it has nothing, watchers wait, and then it is asked again. So what is
returned is what the kernel says, all flags included.
"""
import select as __select__
from errno import EBADF
from select import POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI

from weald._names import take
from weald.event import Event
from weald.hub import get_hub, sleep

__implements__ = ["select", "poll"]
__all__ = ["error"] + __implements__
error = OSError
__imports__ = take(__select__, globals(), leave=__all__)

_real_poll = __select__.poll
_EV_READ, _EV_WRITE = 1, 2
# How select(2) reads what poll(2) says. A descriptor that was closed while it was waited for is "ready": whoever uses it
# is told.
_READABLE = POLLIN | POLLHUP | POLLERR | POLLNVAL
_WRITABLE = POLLOUT | POLLERR | POLLNVAL


def get_fileno(fileobj):
    """The descriptor of a number or of an object with fileno()."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fileobj!r}") from None
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


def _wait(kernel, interests, seconds):
    """Waits until `kernel`, a poll object, has something to say about `interests` (descriptor: flags)."""
    loop = get_hub().loop
    woken = Event()
    seen = {}

    def note(events, fd):
        seen[fd] = seen.get(fd, 0) | (POLLIN if events & _EV_READ else 0) | (POLLOUT if events & _EV_WRITE else 0)
        woken.set()

    watchers = []
    try:
        for fd, flags in interests.items():
            events = (_EV_READ if flags & (POLLIN | POLLPRI) else 0) | (_EV_WRITE if flags & POLLOUT else 0)
            if not events:
                continue
            try:
                watcher = loop.io(fd, events)
                watchers.append(watcher)
                watcher.priority = loop.MAXPRI
                watcher.start(note, fd, pass_events=True)
            except OSError as problem:
                if problem.errno != EBADF:
                    raise
                # The kernel says so below.
                woken.set()
        woken.wait(seconds)
        # If the kernel has nothing, somebody is about to close what was waited for.
        return kernel.poll(0) or list(seen.items())
    finally:
        for watcher in watchers:
            watcher.stop()
            watcher.close()


def _original_select(rlist, wlist, xlist, timeout):
    """select(2) without a limit for descriptors, and without waiting."""
    interests, kernel = _interests(rlist, wlist, xlist)
    found = dict(kernel.poll(timeout))
    if any(flags & POLLNVAL for flags in found.values()):
        raise OSError(EBADF, "Bad file descriptor")
    return _as_lists(found, rlist, wlist, xlist)


def _interests(rlist, wlist, xlist):
    interests, kernel = {}, _real_poll()
    for items, flag in (rlist, POLLIN), (wlist, POLLOUT), (xlist, POLLPRI):
        for item in items:
            fd = _fileno_for_select(item)
            interests[fd] = interests.get(fd, 0) | flag
    for fd, flags in interests.items():
        kernel.register(fd, flags)
    return interests, kernel


def _as_lists(found, rlist, wlist, xlist):
    return tuple(
        [item for item in items if found.get(_fileno_for_select(item), 0) & flags]
        for items, flags in ((rlist, _READABLE), (wlist, _WRITABLE), (xlist, POLLPRI))
    )


def select(rlist, wlist, xlist, timeout=None):
    """Waits until something can be read from one of rlist, or written to one of wlist, or is urgent in xlist."""
    if timeout is not None and timeout < 0:
        raise ValueError("timeout must be non-negative")
    rlist, wlist, xlist = (items if isinstance(items, (list, tuple)) else list(items) for items in (rlist, wlist, xlist))
    found = _original_select(rlist, wlist, xlist, 0)
    if any(found) or timeout == 0:
        # Callers expect that others run at a select, whatever it finds.
        sleep(0)
        return found
    interests, kernel = _interests(rlist, wlist, xlist)
    # Before the wait: an object that is closed meanwhile no longer tells its descriptor.
    by_fd = [[(_fileno_for_select(item), item) for item in items] for items in (rlist, wlist, xlist)]
    found = dict(_wait(kernel, interests, timeout))
    return tuple(
        [item for fd, item in items if found.get(fd, 0) & flags]
        for items, flags in zip(by_fd, (_READABLE, _WRITABLE, POLLPRI))
    )


def _fileno_for_select(item):
    if isinstance(item, int):
        fd = item
    else:
        fileno = getattr(item, "fileno", None)
        if fileno is None:
            raise TypeError("argument must be an int, or have a fileno() method.")
        fd = fileno()
        if not isinstance(fd, int):
            raise TypeError("fileno() returned a non-integer")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


class poll:
    """The standard poll object, for the calling greenlet alone."""

    def __init__(self):
        self.fds = {}
        self._kernel = _real_poll()

    def register(self, fd, eventmask=POLLIN | POLLPRI | POLLOUT):
        fileno = get_fileno(fd)
        self._kernel.register(fileno, eventmask)
        self.fds[fileno] = eventmask

    def modify(self, fd, eventmask):
        fileno = get_fileno(fd)
        self._kernel.modify(fileno, eventmask)
        self.fds[fileno] = eventmask

    def unregister(self, fd):
        fileno = get_fileno(fd)
        del self.fds[fileno]
        self._kernel.unregister(fileno)

    def poll(self, timeout=None):
        """Waits `timeout` milliseconds; None or less than nothing is for ever."""
        found = self._kernel.poll(0)
        if found or timeout == 0:
            # As for select.
            sleep(0)
            return found
        return _wait(self._kernel, self.fds, None if timeout is None or timeout < 0 else timeout / 1000.0)


def _gevent_do_monkey_patch(patch_request):
    patch_request.default_patch_items()
    if patch_request.patch_kwargs["aggressive"]:
        # They would block the thread; modules look for them and go on with what is there.
        patch_request.remove_item("epoll", "kqueue", "kevent", "devpoll")
