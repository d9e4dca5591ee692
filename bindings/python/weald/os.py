"""The standard module `os`, where reads, forks and waits for children leave the other greenlets running.

Reading and writing is not patched: `nb_read` and `nb_write` are for descriptors in non-blocking mode, `tp_read` and
`tp_write` do it in a thread. `fork` watches the child, so that `waitpid` can wait for it without blocking.
"""
import errno
import fcntl
import os as __os__
import time
from os import O_NONBLOCK, WNOHANG
from stat import S_ISREG

from weald._config import config
from weald import _core
from weald._names import take
from weald.event import Event
from weald.hub import get_hub, reinit

EAGAIN = errno.EAGAIN
ignored_errors = [errno.EAGAIN, errno.EINTR]

__implements__ = ["fork", "close", "forkpty"]
__extensions__ = ["tp_read", "tp_write", "make_nonblocking", "nb_read", "nb_write",
                  "fork_gevent", "forkpty_gevent", "fork_and_watch", "forkpty_and_watch"]  # fmt: skip

_read = __os__.read
_write = __os__.write
_close = __os__.close
_fstat = __os__.fstat
_raw_fork = __os__.fork
_raw_forkpty = __os__.forkpty
_waitpid = __os__.waitpid


# ---- descriptors ----


def make_nonblocking(fd):
    """Puts the descriptor into non-blocking mode. True if it was not."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL, 0)
    if flags & O_NONBLOCK:
        return None
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | O_NONBLOCK)
    return True


def _until_ready(call, fd, argument, events):
    watcher = hub = None
    try:
        while True:
            try:
                return call(fd, argument)
            except OSError as problem:
                if problem.errno not in ignored_errors:
                    raise
            if watcher is None:
                hub = get_hub()
                watcher = hub.loop.io(fd, events)
            hub.wait(watcher)
    finally:
        if watcher is not None:
            watcher.close()


def nb_read(fd, n):
    """Reads up to n bytes, waiting for the first. The descriptor must be non-blocking."""
    return _until_ready(_read, fd, n, 1)


def nb_write(fd, buf):
    """Writes what the descriptor takes, waiting until it takes something. It must be non-blocking."""
    return _until_ready(_write, fd, buf, 2)


def tp_read(fd, n):
    """Reads up to n bytes in a thread."""
    return get_hub().threadpool.apply(_read, (fd, n))


def tp_write(fd, buf):
    """Writes in a thread."""
    return get_hub().threadpool.apply(_write, (fd, buf))


def close(fd):
    """Closes a descriptor; whoever waits for it is told."""
    if S_ISREG(_fstat(fd).st_mode) or _hub_if_exists() is None:
        _close(fd)
    else:
        _core.close_fd(fd)


def _hub_if_exists():
    from weald.hub import get_hub_if_exists

    return get_hub_if_exists()


# ---- children ----

# pid: its watcher while it runs, and (pid, status, when) once it has ended and nobody has asked.
_watched_children = {}


def _ended_children():
    return [what for what in _watched_children.values() if isinstance(what, tuple)]


def _on_child_hook():
    """Called when a watched child has ended; weald.signal puts the SIGCHLD handler here."""


def fork_gevent():
    """os.fork, with a hub that works in the child."""
    import warnings

    with warnings.catch_warnings():
        # From 3.12 on, of other threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = _raw_fork()
    if not pid:
        reinit()
    return pid


def forkpty_gevent():
    """os.forkpty, with a hub that works in the child."""
    pid, master = _raw_forkpty()
    if not pid:
        reinit()
    return pid, master


def _on_child(watcher, callback):
    watcher.stop()
    try:
        _watched_children[watcher.pid] = watcher.pid, watcher.rstatus, time.time()
        if callback:
            callback(watcher)
        _on_child_hook()
        _forget_old_children()
    finally:
        watcher.close()


def _forget_old_children(timeout=60):
    oldest = time.time() - timeout
    for pid, what in list(_watched_children.items()):
        if isinstance(what, tuple) and what[2] < oldest:
            del _watched_children[pid]


_reap_children = _forget_old_children


def _watch_child(pid, callback=None, loop=None, ref=False):
    watcher = (loop or get_hub().loop).child(pid, ref=ref)
    _watched_children[pid] = watcher
    watcher.start(_on_child, watcher, callback)


def fork_and_watch(callback=None, loop=None, ref=False, fork=fork_gevent):
    """Forks; in the parent the child is watched, so that `waitpid` can wait for it, and callback(watcher) is called."""
    pid = fork()
    if pid:
        _watch_child(pid, callback, loop, ref)
    return pid


def forkpty_and_watch(callback=None, loop=None, ref=False, forkpty=forkpty_gevent):
    """Like fork_and_watch, with forkpty."""
    results = []

    def fork():
        results.append(forkpty())
        return results[0][0]

    fork_and_watch(callback, loop, ref, fork)
    return results[0]


def _wait_for_any(hub, children):
    ended = Event()
    watchers = [hub.loop.child(child.pid, False) for child in children]
    try:
        for watcher in watchers:
            watcher.start(ended.set)
        ended.wait()
    finally:
        for watcher in watchers:
            watcher.stop()
            watcher.close()


def waitpid(pid, options):
    """os.waitpid; cooperative for children that `fork` made and for `waitpid(-1, 0)`."""
    if pid == -1:
        ended = _ended_children()
        if not ended and _watched_children and not options:
            # One of ours: they are most likely all there are.
            _wait_for_any(get_hub(), list(_watched_children.values()))
            ended = _ended_children()
        if ended:
            pid = min(ended, key=lambda what: what[2])[0]
        elif not options:
            return get_hub().threadpool.apply(_waitpid, (pid, options))
    known = _watched_children.get(pid) if pid > 0 else None
    if known is None:
        return _waitpid(pid, options)
    if isinstance(known, tuple):
        del _watched_children[pid]
        return known[:2]
    if options & WNOHANG:
        return 0, 0
    with known.loop.child(pid, False) as watcher:
        get_hub().wait(watcher)
    # The first watcher is told of the end before the second.
    _watched_children.pop(pid, None)
    return known.rpid, known.rstatus


if not config.disable_watch_children:
    __implements__.append("waitpid")

    def fork(*args, **kwargs):
        """fork_and_watch."""
        return fork_and_watch(*args, **kwargs)

    def forkpty(*args, **kwargs):
        """forkpty_and_watch."""
        return forkpty_and_watch(*args, **kwargs)

    if hasattr(__os__, "posix_spawn"):
        __implements__ += ["posix_spawn", "posix_spawnp"]
        _raw_posix_spawn = __os__.posix_spawn
        _raw_posix_spawnp = __os__.posix_spawnp

        def posix_spawn(*args, **kwargs):
            """os.posix_spawn, and the child is watched."""
            pid = _raw_posix_spawn(*args, **kwargs)
            _watch_child(pid)
            return pid

        def posix_spawnp(*args, **kwargs):
            """os.posix_spawnp, and the child is watched."""
            pid = _raw_posix_spawnp(*args, **kwargs)
            _watch_child(pid)
            return pid

else:
    __extensions__.append("waitpid")

    def fork():
        """fork_gevent: GEVENT_NOWAITPID is set."""
        return fork_gevent()

    def forkpty():
        """forkpty_gevent: GEVENT_NOWAITPID is set."""
        return forkpty_gevent()


__imports__ = take(__os__, globals(), leave=__implements__ + __extensions__)
__all__ = __implements__ + __extensions__
