"""The standard module `selectors`, with a selector that lets other greenlets run while it waits."""
import selectors as __selectors__
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey  # noqa: F401

from weald._names import take
from weald._wait import wait_read
from weald.hub import get_hub, sleep

__implements__ = ["DefaultSelector"]
__extra__ = ["GeventSelector"]
__all__ = __implements__ + __extra__
__imports__ = take(__selectors__, globals(), leave=__all__)


class GeventSelector(__selectors__.EpollSelector):
    """The standard selector over epoll. An epoll is a descriptor itself, and that is what a greenlet waits for."""

    def __init__(self, hub=None):
        super().__init__()
        self._hub = hub

    @property
    def hub(self):
        if self._hub is None:
            self._hub = get_hub()
        return self._hub

    def register(self, fileobj, events, data=None):
        try:
            return super().register(fileobj, events, data)
        except OSError as problem:
            raise ValueError(f"Invalid file descriptor: {fileobj!r}") from problem

    def select(self, timeout=None):
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            # Callers expect that others run, whatever it finds.
            sleep(0)
            return found
        try:
            wait_read(self.fileno(), timeout)
        except TimeoutError:
            return []
        return super().select(0)


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
