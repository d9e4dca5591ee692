"""The exceptions of weald."""
from weald._core import (
    BlockingSwitchOutError,
    ConcurrentObjectUseError,
    HubDestroyed,
    InvalidSwitchError,
    InvalidThreadUseError,
    LoopExit,
)

__all__ = ["LoopExit", "BlockingSwitchOutError", "InvalidSwitchError", "ConcurrentObjectUseError",
           "InvalidThreadUseError", "HubDestroyed"]  # fmt: skip


# What they have beyond being exceptions. They are made in C, where they are raised.


def _hub(self):
    """The hub that had nothing left to do."""
    return self.args[1] if len(self.args) == 3 else None


def _loop_exit_text(self):
    if len(self.args) != 3:
        return Exception.__repr__(self)
    import pprint

    return f"{self.args[0]}\n\tHub: {self.args[1]}\n\tHandles:\n{pprint.pformat(self.args[2])}"


def _hub_destroyed_init(self, destroy_loop):
    super(HubDestroyed, self).__init__(destroy_loop)
    self.destroy_loop = destroy_loop


LoopExit.hub = property(_hub)
LoopExit.__repr__ = LoopExit.__str__ = _loop_exit_text
HubDestroyed.__init__ = _hub_destroyed_init
