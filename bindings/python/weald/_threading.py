"""Locks and a queue that always belong to native threads, whatever is patched. They serve the thread pool."""
from collections import deque

from weald._patching import get_original

__all__ = ["Lock", "Queue", "EmptyTimeout"]

start_new_thread, Lock, get_thread_ident = get_original("_thread", ["start_new_thread", "allocate_lock", "get_ident"])


class EmptyTimeout(Exception):
    """Queue.get waited for its time, and nothing came."""


class Queue:
    """A queue without a limit, between native threads; it counts what was put and is not done.

    A thread that waits holds a lock of its own (its cookie, from `allocate_cookie`), which `put` releases. The latest
    that came to wait is woken first, so that the others become idle and end.
    """

    def __init__(self):
        self._items = deque()
        self._mutex = Lock()
        self._waiters = []
        self.unfinished_tasks = 0

    def put(self, item):
        with self._mutex:
            self._items.append(item)
            self.unfinished_tasks += 1
            if self._waiters:
                self._waiters.pop().release()

    def get(self, cookie, timeout=-1):
        """Takes the next item, waiting for it for `timeout` seconds, by default for ever."""
        with self._mutex:
            while not self._items:
                if not self._wait(cookie, timeout) and not self._items:
                    raise EmptyTimeout
            return self._items.popleft()

    def _wait(self, cookie, timeout):
        # Seen by weald.util in the frame of a thread that has nothing to do.
        gevent_threadpool_worker_idle = True  # noqa: F841
        cookie.acquire()
        self._waiters.append(cookie)
        self._mutex.release()
        try:
            woken = cookie.acquire(timeout=timeout)
        finally:
            self._mutex.acquire()
        if not woken and cookie in self._waiters:
            self._waiters.remove(cookie)
        elif not woken:
            # Woken after the time was over, and before the mutex was ours again: it counts, and the lock is free.
            return True
        cookie.release()
        return woken

    def task_done(self):
        with self._mutex:
            if not self.unfinished_tasks:
                raise ValueError("task_done() called too many times; 0 remaining tasks")
            self.unfinished_tasks -= 1

    def qsize(self):
        return len(self._items)

    def empty(self):
        return not self._items

    def full(self):
        return False

    def allocate_cookie(self):
        return Lock()

    def kill(self):
        """Forgets everything; for a child after a fork, where the locks are in no known state."""
        self._items = self._mutex = self._waiters = self.unfinished_tasks = None
