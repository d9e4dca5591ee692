import selectors as _selectors

from weald.hub import Hub

__all__ = ["DefaultSelector", "GeventSelector"]

class GeventSelector(_selectors.EpollSelector):
    def __init__(self, hub: Hub | None = ...) -> None: ...
    @property
    def hub(self) -> Hub: ...

DefaultSelector = GeventSelector
