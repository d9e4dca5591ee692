from weald.core import *
from weald.core import loop as _loop

__all__ = ["loop", "callback", "watcher", "time", "get_version", "get_header_version", "supported_backends",
           "recommended_backends", "embeddable_backends", "READ", "WRITE", "EVENTS", "Loop"]  # fmt: skip

class Loop(_loop): ...
