"""Queues for greenlets, and the names of the standard module `queue`."""
import queue as __queue__
import types
from collections import deque
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
        super().__init__(None, items)
        if maxsize is not None:
            raise ValueError(f"an UnboundQueue is not bounded by {maxsize!r}")


class Channel:
    """A queue without room: each put waits for its get.

    Those who wait stand in two lines. When somebody stands in both, the hub lets the first two of them meet.
    """

    __slots__ = ("getters", "putters", "hub", "_meeting", "__weakref__")
    __class_getitem__ = classmethod(types.GenericAlias)

    def __init__(self, maxsize=1):
        if maxsize != 1:
            raise ValueError(f"a Channel has a maxsize of 1, not {maxsize!r}")
        self.hub = get_hub()
        #: the call of _meet that is to come
        self._meeting = None
        #: waiters that are switched to with an item
        self.getters = deque()
        #: pairs of an item and the waiter of who puts it
        self.putters = deque()

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} {self._format()}>"

    def __str__(self):
        return f"<{type(self).__name__} {self._format()}>"

    def _format(self):
        lines = ("getters", self.getters), ("putters", self.putters)
        return "".join(f" {name}[{len(line)}]" for name, line in lines if line)

    def full(self):
        """There is never room,"""
        return True

    def empty(self):
        """nor ever an item,"""
        return True

    def qsize(self):
        """whoever waits."""
        return 0

    @property
    def balance(self):
        """Who waits: so many to put, or, below 0, to get."""
        return len(self.putters) - len(self.getters)

    def put(self, item, block=True, timeout=None):
        """Waits until somebody gets the item; Full when nobody does in time."""
        if getcurrent() is not self.hub:
            waiter = Waiter()
            self._stand(self.putters, (item, waiter), waiter, timeout if block else 0, Full)
        elif self.getters:
            self.getters.popleft().switch(item)
        else:
            raise Full

    def put_nowait(self, item):
        """Full if nobody waits for an item."""
        self.put(item, block=False)

    def get(self, block=True, timeout=None):
        """Waits for somebody to put an item; Empty when nobody does in time."""
        if self.putters and getcurrent() is self.hub:
            item, giver = self.putters.popleft()
            self.hub.loop.run_callback(giver.switch, None)
            return item
        waiter = Waiter()
        return self._stand(self.getters, waiter, waiter, timeout if block else 0, Empty)

    def get_nowait(self):
        """Empty if nobody waits with an item."""
        return self.get(block=False)

    def _stand(self, line, entry, waiter, seconds, too_late):
        """Waits in a line, and leaves it if nothing comes of that."""
        line.append(entry)
        try:
            if self.putters and self.getters and not self._meeting:
                self._meeting = self.hub.loop.run_callback(self._meet)
            if seconds is None:
                return waiter.get()
            with Timeout._start_new_or_dummy(seconds, too_late):
                return waiter.get()
        except:  # noqa: E722
            if entry in line:
                line.remove(entry)
            raise

    def _meet(self):
        while self.putters and self.getters:
            (item, giver), taker = self.putters.popleft(), self.getters.popleft()
            taker.switch(item)
            giver.switch(None)

    def __next__(self):
        item = self.get()
        if item is StopIteration:
            raise item
        return item

    next = __next__

    def __iter__(self):
        return self
