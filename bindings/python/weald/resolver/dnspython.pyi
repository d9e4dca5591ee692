from typing import Any

from weald.hub import Hub
from weald.resolver import AbstractResolver

__all__ = ["Resolver"]

class Resolver(AbstractResolver):
    def __init__(self, hub: Hub | None = ...) -> None: ...
    @property
    def resolver(self) -> Any: ...
