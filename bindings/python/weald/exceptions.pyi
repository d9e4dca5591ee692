from typing import Any

from weald.greenlet import GreenletExit
from weald.hub import Hub

__all__ = ["LoopExit", "BlockingSwitchOutError", "InvalidSwitchError", "ConcurrentObjectUseError",
           "InvalidThreadUseError", "HubDestroyed"]  # fmt: skip

class LoopExit(Exception):
    @property
    def hub(self) -> Hub | None: ...

class BlockingSwitchOutError(AssertionError): ...
class InvalidSwitchError(AssertionError): ...
class ConcurrentObjectUseError(AssertionError): ...
class InvalidThreadUseError(RuntimeError): ...

class HubDestroyed(GreenletExit):
    destroy_loop: Any
    def __init__(self, destroy_loop: Any) -> None: ...
