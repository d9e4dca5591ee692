from weald._wait import wait as wait_on_watcher, wait_read, wait_readwrite, wait_write  # noqa: F401
from weald.hub import iwait as iwait_on_objects, wait as wait_on_objects  # noqa: F401

__all__ = ["iwait_on_objects", "wait_on_objects", "wait_on_watcher", "wait_read", "wait_write", "wait_readwrite"]
