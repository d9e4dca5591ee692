"""Groups and pools of greenlets."""
from functools import partial

from weald._core import Greenlet, GreenletExit, Queue, Semaphore, Timeout, getcurrent
from weald.event import Event
from weald.greenlet import joinall
from weald.hub import kill as _kill
from weald.lock import DummySemaphore
from weald.queue import Full as QueueFull

__all__ = ["Group", "Pool", "PoolFull"]


class _Raising:
    """Stands in the queue of an _Imap for an exception, as what has ended stands there for its result."""

    __slots__ = ("problem",)

    def __init__(self, problem):
        self.problem = problem

    def get(self):
        raise self.problem


class _End:
    """The last in the queue, where it stays: whoever asks again is told again."""

    __slots__ = ("queue",)

    def __init__(self, queue):
        self.queue = queue

    def get(self):
        self.queue.put(self)
        raise StopIteration


class _Imap(Greenlet):
    """The greenlet that feeds a pool with calls, and the iterator over what they return.

    What has ended goes into `queue` as it is, and its get() is the next result. In order: what ends too early is held
    back until its turn.
    """

    def __init__(self, spawn, func, iterables, maxsize, in_order):
        Greenlet.__init__(self)
        self._work = spawn, func, zip(*iterables)
        self._room = Semaphore(maxsize) if maxsize else None
        self._held = {} if in_order else None
        self._turn = 0
        #: calls that have not ended, and one for the feeding itself
        self._open = 1
        self.queue = Queue()
        #: nothing more will come into the queue
        self.finished = False

    def __iter__(self):
        return self

    def __next__(self):
        if self._room is not None:
            self._room.release()
        return self.queue.get().get()

    next = __next__

    def _run(self):
        (spawn, func, calls), self._work = self._work, None
        room, in_order = self._room, self._held is not None
        number = 0
        try:
            for args in calls:
                if room is not None:
                    room.acquire()
                call = spawn(func, *args)
                self._open += 1
                call.rawlink(partial(self._ended_in_order, number) if in_order else self._ended)
                number += 1
        except BaseException as problem:
            broken = _Raising(problem)
            if in_order:
                self._pass_on(number, broken)
            else:
                self.queue.put(broken)
            raise
        finally:
            self._close_one()

    def _ended(self, call):
        self.queue.put(call)
        self._close_one()

    def _ended_in_order(self, number, call):
        self._pass_on(number, call)
        self._close_one()

    def _pass_on(self, number, ended):
        held = self._held
        held[number] = ended
        while self._turn in held:
            self.queue.put(held.pop(self._turn))
            self._turn += 1

    def _close_one(self):
        self._open -= 1
        if not self._open:
            self.finished = True
            self.queue.put(_End(self.queue))


class GroupMappingMixin:
    """apply, map and imap, by means of spawn: what Group and ThreadPool share."""

    __slots__ = ()

    def spawn(self, func, *args, **kwargs):
        raise NotImplementedError

    def _is_inside(self):
        """Whether the caller is itself a call of this pool: waiting for another one might last for ever."""
        return False

    def _spawn_may_wait(self):
        return True

    def _tell(self, callback, value):
        callback(value)

    def apply(self, func, args=None, kwds=None):
        """Calls the function in a greenlet and waits for what it returns."""
        args, kwds = args or (), kwds or {}
        return func(*args, **kwds) if self._is_inside() else self.spawn(func, *args, **kwds).get()

    def apply_cb(self, func, args=None, kwds=None, callback=None):
        """As apply; the callback is told the value as well."""
        value = self.apply(func, args, kwds)
        if callback is not None:
            self._tell(callback, value)
        return value

    def apply_async(self, func, args=None, kwds=None, callback=None):
        """Calls the function in a greenlet, which is returned; never waits."""
        if self._spawn_may_wait():
            return Greenlet.spawn(self.apply_cb, func, args, kwds, callback)
        call = self.spawn(func, *(args or ()), **(kwds or {}))
        if callback is not None:
            call.link_value(lambda ended: callback(ended.value))
        return call

    def map(self, func, iterable):
        """A list of what the function returns for each item; all run at the same time."""
        return self.map_async(func, iterable).get()

    def map_cb(self, func, iterable, callback=None):
        """As map; the callback is told the list as well."""
        return self.map_async(func, iterable, callback).get()

    def map_async(self, func, iterable, callback=None):
        """As map, in a greenlet that is returned; never waits."""
        return Greenlet.spawn(self._map, func, iterable, callback)

    def _map(self, func, iterable, callback):
        calls = self._spawn_each(func, iterable)
        values = [call.get() for call in calls]
        if callback is not None:
            callback(values)
        return values

    def _spawn_each(self, func, iterable):
        return [self.spawn(func, item) for item in iterable]

    def imap(self, func, *iterables, maxsize=None):
        """An iterator over the results, in order; at most maxsize unread."""
        return _Imap.spawn(self.spawn, func, iterables, maxsize, True)

    def imap_unordered(self, func, *iterables, maxsize=None):
        """As imap, as they come."""
        return _Imap.spawn(self.spawn, func, iterables, maxsize, False)


class Group(GroupMappingMixin):
    """Greenlets that are waited for, or killed, together. One that has ended leaves it."""

    greenlet_class = Greenlet

    def __init__(self, *greenlets):
        if len(greenlets) > 1:
            raise TypeError(f"a group takes one collection of greenlets, not {len(greenlets)} arguments")
        self._empty = Event()
        self._empty.set()
        #: those that were killed and have not ended
        self._doomed = set()
        self.greenlets = set()
        for greenlet in greenlets[0] if greenlets else ():
            Group.add(self, greenlet)

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} {self.greenlets}>"

    def __len__(self):
        return len(self.greenlets)

    def __contains__(self, greenlet):
        return greenlet in self.greenlets

    def __iter__(self):
        return iter(self.greenlets)

    # ---- coming and going ----

    def add(self, greenlet):
        """Takes a greenlet in."""
        # The main greenlet cannot be linked to, and never leaves by itself.
        link = getattr(greenlet, "rawlink", None)
        if link is not None:
            link(self._leave)
        self._empty.clear()
        self.greenlets.add(greenlet)

    def _leave(self, greenlet):
        members = self.greenlets
        members.discard(greenlet)
        if self._doomed:
            self._doomed.discard(greenlet)
        if not members:
            self._empty.set()

    def discard(self, greenlet):
        """Lets a greenlet go, whether it has ended or not."""
        self._leave(greenlet)
        if hasattr(greenlet, "unlink"):
            greenlet.unlink(self._leave)

    def start(self, greenlet):
        """Takes a greenlet in and starts it."""
        self.add(greenlet)
        greenlet.start()

    def spawn(self, *args, **kwargs):
        """Makes a greenlet of greenlet_class, takes it in and starts it."""
        new = self.greenlet_class(*args, **kwargs)
        kind = type(self)
        if kind.start is not Group.start or kind.add is not Group.add:
            self.start(new)
            return new
        # As start and add, without the calls: those would be felt, as in Pool.add.
        link = getattr(new, "rawlink", None)
        if link is not None:
            link(self._leave)
        self._empty.clear()
        self.greenlets.add(new)
        new.start()
        return new

    def _spawn_each(self, func, iterable):
        kind = type(self)
        if (kind.spawn, kind.start, kind.add) != (Group.spawn, Group.start, Group.add):
            return super()._spawn_each(func, iterable)
        # As spawn, with what is the same for all looked up once, and one link for all.
        make, leave, calls = self.greenlet_class, self._leave, []
        for item in iterable:
            new = make(func, item)
            link = getattr(new, "rawlink", None)
            if link is not None:
                link(leave)
            self._empty.clear()
            self.greenlets.add(new)
            new.start()
            calls.append(new)
        return calls

    def full(self):
        return False

    def wait_available(self, timeout=None):
        """There is room at any time."""

    # ---- the end of all ----

    def join(self, timeout=None, raise_error=False):
        """Waits until the group is empty; whether it is. raise_error: raises what one of the greenlets raised."""
        members = tuple(self.greenlets) if raise_error else ()
        is_empty = self._empty.wait(timeout)
        for failed in members:
            if getattr(failed, "exception", None) is not None:
                failed.get(block=False)
        return is_empty

    def kill(self, exception=GreenletExit, block=True, timeout=None):
        """Kills all, and those that join meanwhile."""
        self._doom(exception)
        if block:
            with Timeout(timeout, False):
                while self.greenlets:
                    joinall(list(self.greenlets))
                    self._let_links_run()
                    self._doom(exception)

    def _doom(self, exception):
        for greenlet in self.greenlets - self._doomed:
            self._doomed.add(greenlet)
            _kill(greenlet, exception)

    def _let_links_run(self):
        """Those that have ended leave the group in the hub."""
        if self.greenlets and all(g.dead for g in self.greenlets):
            self._empty.wait()

    def killone(self, greenlet, exception=GreenletExit, block=True, timeout=None):
        """Kills one of the group, unless that was done before."""
        if greenlet in self._doomed or greenlet not in self.greenlets:
            return
        self._doomed.add(greenlet)
        _kill(greenlet, exception)
        if block:
            greenlet.join(timeout)

    # ---- what GroupMappingMixin asks ----

    def _is_inside(self):
        return getcurrent() in self.greenlets

    def _spawn_may_wait(self):
        return self.full()

    def _tell(self, callback, value):
        Greenlet.spawn(callback, value)


class PoolFull(QueueFull):
    """A pool had no room in time."""


class Pool(Group):
    """A group of at most `size` greenlets: spawn waits for room."""

    def __init__(self, size=None, greenlet_class=None):
        if size is not None and size < 0:
            raise ValueError(f"size must not be negative: {size!r}")
        self.size = size
        self._semaphore = DummySemaphore(size) if size is None else Semaphore(size)
        if greenlet_class is not None:
            self.greenlet_class = greenlet_class
        super().__init__()

    def wait_available(self, timeout=None):
        """Waits until there is room, or the time is over."""
        return self._semaphore.wait(timeout=timeout)

    def full(self):
        return self.free_count() <= 0

    def free_count(self):
        """For how many there is room; 1 if for any number."""
        return 1 if self.size is None else max(0, self.size - len(self))

    def start(self, greenlet, *args, **kwargs):
        """Starts a greenlet as soon as there is room for it. The arguments are those of add."""
        self.add(greenlet, *args, **kwargs)
        greenlet.start()

    def spawn(self, *args, **kwargs):
        """Starts a greenlet as soon as there is room for it."""
        new = self.greenlet_class(*args, **kwargs)
        if type(self).start is not Pool.start:
            self.start(new)
            return new
        self.add(new)
        new.start()
        return new

    def add(self, greenlet, blocking=True, timeout=None):
        """Takes a greenlet in as soon as there is room for it. PoolFull: there was none in time."""
        if not self._semaphore.acquire(blocking, timeout):
            # What was made for nothing must not run.
            raise PoolFull()
        try:
            # As Group.add, without the call: that would be felt, as in _leave and spawn.
            link = getattr(greenlet, "rawlink", None)
            if link is not None:
                link(self._leave)
            self._empty.clear()
            self.greenlets.add(greenlet)
        except:  # noqa: E722
            self._semaphore.release()
            raise

    def _leave(self, greenlet):
        members = self.greenlets
        members.discard(greenlet)
        if self._doomed:
            self._doomed.discard(greenlet)
        if not members:
            self._empty.set()
        self._semaphore.release()
