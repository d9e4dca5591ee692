"""The loop: watchers, callbacks, and gevent's names for them."""
import signal as _signal

from weald._core import Loop, _run_fork_watchers, callback, get_hub, getcurrent, sleep, watcher

__all__ = ["loop", "callback", "watcher", "time", "get_version", "get_header_version", "supported_backends",
           "recommended_backends", "embeddable_backends", "READ", "WRITE", "EVENTS"]  # fmt: skip

READ = 1
WRITE = 2
EVENTS = READ | WRITE
TIMER, PERIODIC, SIGNAL, CHILD, IDLE, PREPARE, CHECK, ASYNC, FORK, STAT, ERROR = (
    0x100, 0x200, 0x400, 0x800, 0x2000, 0x4000, 0x8000, 0x80000, 0x20000, 0x1000, 0x80000000,
)  # fmt: skip
MINPRI, MAXPRI = -2, 2


class loop(Loop):
    """This thread's loop. `flags` and `default` are taken as gevent takes them: there is one loop a thread."""

    MAXPRI = MAXPRI
    MINPRI = MINPRI
    approx_timer_resolution = 0.00001
    backend = "weald"
    backend_int = 0
    origflags = origflags_int = 0
    sigfd = None
    starting_timer_may_update_loop_time = False

    def __init__(self, flags=None, default=None):
        import threading

        if isinstance(flags, str) and flags not in ("weald", "auto", "epoll", "select", "poll", ""):
            raise ValueError(f"Unknown backend: {flags!r}")
        Loop.__init__(self)
        if default is None:
            default = threading.get_ident() == threading.main_thread().ident
        self.default = bool(default)
        self._destroyed = False

    def run(self, nowait=False, once=False):
        """Runs until nothing is left to wait for; main runs the loop itself, another greenlet has it run meanwhile."""
        if getcurrent().parent is None:
            return Loop.run(self, nowait, once)
        hub = get_hub()
        while True:
            if not self._waits():
                # What is ready may begin to wait for something.
                sleep(0)
            if not self._waits():
                return False
            # Whoever switches here hands over to the loop.
            hub.switch()
            if nowait or once:
                return True

    def _waits(self):
        stats = self.stats()
        return stats["timers"] + stats["descriptors"]

    def destroy(self):
        """Forgets who is told of errors; the library's loop ends with its thread."""
        self.error_handler = None
        self.default = False
        self._destroyed = True
        return True

    @property
    def ptr(self):
        return not self._destroyed

    def reinit(self):
        """In a child: tells those who watch for forks. The library has noticed by itself."""
        _run_fork_watchers()

    def stat(self, path, interval=0.0, ref=True, priority=None):
        """A watcher of a file; an interval that is not positive is the library's choice."""
        return Loop.stat(self, path, max(0.0, interval), ref, priority)

    def closing_fd(self, fd):
        """Whether somebody still has to be told that a descriptor goes. Nobody: waits for it are called off."""
        return False

    def ref(self):
        """Watchers are counted one by one."""

    unref = ref

    def debug(self):
        return []

    def verify(self):
        pass

    @property
    def iteration(self):
        return self.stats()["turns"]

    @property
    def depth(self):
        return 0

    @property
    def activecnt(self):
        stats = self.stats()
        return stats["timers"] + stats["descriptors"] + stats["ready"]

    @property
    def pendingcnt(self):
        return self.stats()["ready"]

    @property
    def default_handle_error(self):
        return self.handle_error

    def _format(self):
        stats = self.stats()
        text = "weald"
        if self.default:
            text += " default"
        return f"{text} pending={stats['ready']} fileno={self.fileno()}"

    def __repr__(self):
        return f"<{type(self).__module__}.{type(self).__name__} at {id(self):#x} {self._format()}>"


# Its name before that became a keyword of Python's.
setattr(loop, "async", loop.async_)


def time():
    from time import time as now

    return now()


def get_version():
    from weald._core import versions

    return "weald-" + versions()[0]


get_header_version = get_version


def supported_backends():
    return ["weald"]


recommended_backends = embeddable_backends = supported_backends


def _events_to_str(events):
    names = [name for bit, name in ((READ, "READ"), (WRITE, "WRITE")) if events & bit]
    rest = events & ~EVENTS
    if rest:
        names.append(hex(rest))
    return "|".join(names)


# libev's constants, for who passes them.
NSIG = _signal.NSIG
BACKEND_EPOLL = 4
