from collections.abc import Callable
from typing import Any

from weald.hub import Hub

__all__ = ["Resolver"]

class Resolver:
    def __init__(self, hub: Hub | None = ...) -> None: ...
    def close(self) -> None: ...
    gethostbyname: Callable[..., Any]
    gethostbyname_ex: Callable[..., Any]
    getaddrinfo: Callable[..., Any]
    gethostbyaddr: Callable[..., Any]
    getnameinfo: Callable[..., Any]
