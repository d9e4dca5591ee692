"""Semaphores and locks for greenlets; they work across threads as well."""
from weald._core import BoundedSemaphore, RLock, Semaphore

__all__ = ["Semaphore", "DummySemaphore", "BoundedSemaphore", "RLock"]


class DummySemaphore:
    """A semaphore that is always free: where the number is not to be bounded."""

    def __init__(self, value=None):
        pass

    def __str__(self):
        return f"<{type(self).__name__}>"

    def locked(self):
        return False

    def ready(self):
        return True

    def release(self):
        pass

    def rawlink(self, callback):
        pass

    def unlink(self, callback):
        pass

    def wait(self, timeout=None):
        return 1

    def acquire(self, blocking=True, timeout=None):
        return True

    def __enter__(self):
        pass

    def __exit__(self, *exc_info):
        pass
