"""The standard module `time`, with a sleep that lets other greenlets run."""
import time as __time__

from weald._names import take
from weald.hub import sleep

__implements__ = ["sleep"]
__all__ = __implements__
__imports__ = take(__time__, globals(), leave=__implements__)
