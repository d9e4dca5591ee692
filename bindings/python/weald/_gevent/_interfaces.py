"""What a loop, a watcher and a callback have, as interfaces that zope.interface can verify."""
from weald.events import Attribute, Interface

__all__ = ["ILoop", "IWatcher", "ICallback"]


class ILoop(Interface):
    """A loop."""

    default = Attribute("Whether it is the process's own.")
    approx_timer_resolution = Attribute("Seconds that a timer may be late.")

    def run(nowait=False, once=False):
        """Runs until there is nothing to wait for."""

    def now():
        """The loop's time."""

    def update_now():
        """Makes the loop's time the present."""

    def destroy():
        """Ends it."""

    def io(fd, events, ref=True, priority=None):
        """A watcher of a descriptor."""

    def closing_fd(fd):
        """The descriptor is about to be closed."""

    def timer(after, repeat=0.0, ref=True, priority=None):
        """A watcher of time."""

    def signal(signum, ref=True, priority=None):
        """A watcher of a signal."""

    def idle(ref=True, priority=None):
        """A watcher that runs when nothing else does."""

    def prepare(ref=True, priority=None):
        """A watcher that runs before the loop waits."""

    def check(ref=True, priority=None):
        """A watcher that runs after the loop has waited."""

    def fork(ref=True, priority=None):
        """A watcher that runs in a child after a fork."""

    def async_(ref=True, priority=None):
        """A watcher that other threads may send to."""

    def child(pid, trace=0, ref=True):
        """A watcher of a child process."""

    def stat(path, interval=0.0, ref=True, priority=None):
        """A watcher of a file."""

    def run_callback(func, *args):
        """Calls func soon."""

    def run_callback_threadsafe(func, *args):
        """The same, from any thread."""


class IWatcher(Interface):
    """A watcher."""

    def start(callback, *args, **kwargs):
        """Begins to watch."""

    def stop():
        """Ceases to watch."""

    def close():
        """Gives it up."""


class ICallback(Interface):
    """What run_callback returns."""

    pending = Attribute("Whether it is still to be called.")

    def stop():
        """It will not be called."""

    def close():
        """The same."""


def _declare():
    try:
        from zope.interface import classImplements
    except ImportError:
        return
    from weald.core import callback, loop, watcher

    classImplements(loop, ILoop)
    classImplements(watcher, IWatcher)
    classImplements(callback, ICallback)


_declare()
