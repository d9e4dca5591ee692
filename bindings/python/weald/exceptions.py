"""The exceptions of weald."""
from weald._core import GreenletExit

__all__ = ["LoopExit", "BlockingSwitchOutError", "InvalidSwitchError", "ConcurrentObjectUseError",
           "InvalidThreadUseError", "HubDestroyed"]  # fmt: skip


class LoopExit(Exception):
    """Nothing will ever wake those who wait: the loop has nothing left to wait for.

    Its arguments are a message, the hub, and what the loop still knows of.
    """

    @property
    def hub(self):
        return self.args[1] if len(self.args) == 3 else None

    def __repr__(self):
        if len(self.args) != 3:
            return super().__repr__()
        import pprint

        return f"{self.args[0]}\n\tHub: {self.args[1]}\n\tHandles:\n{pprint.pformat(self.args[2])}"

    __str__ = __repr__


class BlockingSwitchOutError(AssertionError):
    """A callback of the loop called something that waits."""


class InvalidSwitchError(AssertionError):
    """A greenlet that waits was switched to by somebody else than what it waits for."""


class ConcurrentObjectUseError(AssertionError):
    """A second greenlet wants to wait for something that only one may wait for."""


class InvalidThreadUseError(RuntimeError):
    """An object is used in another thread than the one it belongs to."""


class HubDestroyed(GreenletExit):
    """Ends the hub's greenlet; only the hub itself raises it."""

    def __init__(self, destroy_loop):
        super().__init__(destroy_loop)
        self.destroy_loop = destroy_loop
