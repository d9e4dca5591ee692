"""The standard module `selectors`, with a selector that lets other greenlets run while it waits."""
import selectors as __selectors__
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey  # noqa: F401

from weald._names import take
from weald.event import Event
from weald.hub import get_hub, sleep

__implements__ = ["DefaultSelector"]
__extra__ = ["GeventSelector"]
__all__ = __implements__ + __extra__
__imports__ = take(__selectors__, globals(), leave=__all__)

_EV_READ, _EV_WRITE = 1, 2
_Base = __selectors__._BaseSelectorImpl


class GeventSelector(_Base):
    """A selector with one watcher for each registered descriptor. A closed one must be unregistered before."""

    def __init__(self, hub=None):
        super().__init__()
        self._hub = hub
        self._watchers = {}
        self._started = set()
        self._seen = {}
        self._ready = Event()

    @property
    def hub(self):
        if self._hub is None:
            self._hub = get_hub()
        return self._hub

    def register(self, fileobj, events, data=None):
        key = super().register(fileobj, events, data)
        flags = (_EV_READ if events & EVENT_READ else 0) | (_EV_WRITE if events & EVENT_WRITE else 0)
        loop = self.hub.loop
        try:
            watcher = loop.io(key.fd, flags)
        except OSError as problem:
            super().unregister(fileobj)
            raise ValueError(f"Invalid file descriptor: {key.fd}") from problem
        watcher.priority = loop.MAXPRI
        self._watchers[key.fd] = watcher
        return key

    def unregister(self, fileobj):
        key = super().unregister(fileobj)
        watcher = self._watchers.pop(key.fd)
        watcher.stop()
        watcher.close()
        self._started.discard(key.fd)
        self._seen.pop(key.fd, None)
        return key

    def _on_event(self, events, fd):
        if events > 0:
            found = (EVENT_READ if events & _EV_READ else 0) | (EVENT_WRITE if events & _EV_WRITE else 0)
            self._seen[fd] = self._seen.get(fd, 0) | found
        self._ready.set()

    def select(self, timeout=None):
        if timeout is not None and timeout < 0:
            timeout = 0
        for fd, watcher in self._watchers.items():
            if fd not in self._started:
                watcher.start(self._on_event, fd, pass_events=True)
                self._started.add(fd)
        if self._ready.is_set():
            sleep(0)
        self._ready.wait(timeout)
        self._ready.clear()
        found = []
        for fd, events in self._seen.items():
            # Stopped until the next select: what is not read yet would be reported over and over.
            self._watchers[fd].stop()
            self._started.discard(fd)
            key = self._fd_to_key.get(fd)
            if key is not None:
                found.append((key, events & key.events))
        self._seen.clear()
        return found

    def close(self):
        for watcher in self._watchers.values():
            watcher.stop()
            watcher.close()
        self._watchers.clear()
        self._started.clear()
        self._seen.clear()
        self._hub = None
        super().close()


DefaultSelector = GeventSelector


def _gevent_do_monkey_patch(patch_request):
    import select

    from weald.select import poll, select as green_select

    selectors = patch_request.target_module
    real_select = patch_request.get_original("select", "select")
    patch_request.default_patch_items()
    if selectors.SelectSelector._select in (select.select, real_select):

        def _select(self, *args, **kwargs):
            return green_select(*args, **kwargs)

        _select._gevent_monkey = True
        selectors.SelectSelector._select = _select
    if patch_request.patch_kwargs["aggressive"]:
        patch_request.remove_item(selectors, "EpollSelector", "KqueueSelector", "DevpollSelector")
        selectors.DefaultSelector = DefaultSelector
    if hasattr(selectors, "PollSelector"):
        selectors.PollSelector._selector_cls = poll
