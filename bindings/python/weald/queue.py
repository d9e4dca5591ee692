"""Queues for greenlets, and the names of the standard module `queue`."""
import collections
import queue as __queue__
import types
from queue import Empty, Full

from weald._core import (
    LifoQueue, PriorityQueue, Queue, SimpleQueue, Timeout, Waiter, _extend, _set_queue_exceptions, get_hub, getcurrent,
)  # fmt: skip

__implements__ = ["Queue", "PriorityQueue", "LifoQueue", "SimpleQueue"]
__extensions__ = ["JoinableQueue", "Channel"]
__imports__ = ["Empty", "Full"]

if hasattr(__queue__, "ShutDown"):
    ShutDown = __queue__.ShutDown
    __imports__.append("ShutDown")
else:

    class ShutDown(Exception):
        """The queue has been shut down."""

    __extensions__.append("ShutDown")

__all__ = __implements__ + __extensions__ + __imports__

_set_queue_exceptions(Empty, Full, ShutDown)
JoinableQueue = Queue


def _format(self):
    parts = []
    if self.maxsize is not None:
        parts.append(f"maxsize={self.maxsize!r}")
    if self.qsize():
        parts.append(f"queue={self.queue!r}")
    if self.getters:
        parts.append(f"getters[{len(self.getters)}]")
    if self.putters:
        parts.append(f"putters[{len(self.putters)}]")
    if getattr(self, "unfinished_tasks", 0):
        parts.append(f"tasks={self.unfinished_tasks}")
    return " " + " ".join(parts) if parts else ""


def _copy(self):
    """Another queue with the same items."""
    return type(self)(self.maxsize, self.queue)


def _copy_with_tasks(self):
    """Another queue with the same items and unfinished tasks."""
    return type(self)(self.maxsize, self.queue, self.unfinished_tasks)


_extend(SimpleQueue, "_format", _format)
_extend(SimpleQueue, "_repr", lambda self: f"<{type(self).__name__} at {id(self):#x}{self._format()}>")
_extend(SimpleQueue, "_str", lambda self: f"<{type(self).__name__}{self._format()}>")
_extend(SimpleQueue, "copy", _copy)
_extend(Queue, "copy", _copy_with_tasks)


class UnboundQueue(Queue):
    """A Queue that has no bound."""

    __slots__ = ()

    def __init__(self, maxsize=None, items=()):
        if maxsize is not None:
            raise ValueError("UnboundQueue has no maxsize")
        Queue.__init__(self, maxsize, items)


class Channel:
    """A queue without room: each put waits for its get."""

    __slots__ = ("getters", "putters", "hub", "_unlocking", "__weakref__")
    __class_getitem__ = classmethod(types.GenericAlias)

    def __init__(self, maxsize=1):
        if maxsize != 1:
            raise ValueError("Channels have a maxsize of 1")
        self.getters = collections.deque()
        self.putters = collections.deque()
        self.hub = get_hub()
        self._unlocking = None

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} {self._format()}>"

    def __str__(self):
        return f"<{type(self).__name__} {self._format()}>"

    def _format(self):
        text = ""
        if self.getters:
            text += f" getters[{len(self.getters)}]"
        if self.putters:
            text += f" putters[{len(self.putters)}]"
        return text

    @property
    def balance(self):
        return len(self.putters) - len(self.getters)

    def qsize(self):
        return 0

    def empty(self):
        return True

    def full(self):
        return True

    def put(self, item, block=True, timeout=None):
        """Waits until somebody gets the item; Full when nobody does in time."""
        if getcurrent() is self.hub:
            if not self.getters:
                raise Full
            self.getters.popleft().switch(item)
            return
        waiter = Waiter()
        entry = item, waiter
        self.putters.append(entry)
        timer = Timeout._start_new_or_dummy(timeout if block else 0, Full)
        try:
            if self.getters:
                self._unlock_soon()
            waiter.get()
        except:  # noqa: E722
            if entry in self.putters:
                self.putters.remove(entry)
            raise
        finally:
            timer.cancel()

    def put_nowait(self, item):
        self.put(item, False)

    def get(self, block=True, timeout=None):
        """Waits for somebody to put an item; Empty when nobody does in time."""
        if getcurrent() is self.hub:
            if self.putters:
                item, putter = self.putters.popleft()
                self.hub.loop.run_callback(putter.switch, putter)
                return item
        waiter = Waiter()
        timer = Timeout._start_new_or_dummy(timeout if block else 0, Empty)
        try:
            self.getters.append(waiter)
            if self.putters:
                self._unlock_soon()
            return waiter.get()
        except:  # noqa: E722
            if waiter in self.getters:
                self.getters.remove(waiter)
            raise
        finally:
            timer.close()

    def get_nowait(self):
        return self.get(False)

    def _unlock(self):
        while self.putters and self.getters:
            getter = self.getters.popleft()
            item, putter = self.putters.popleft()
            getter.switch(item)
            putter.switch(putter)

    def _unlock_soon(self):
        if not self._unlocking:
            self._unlocking = self.hub.loop.run_callback(self._unlock)

    def __iter__(self):
        return self

    def __next__(self):
        item = self.get()
        if item is StopIteration:
            raise item
        return item
