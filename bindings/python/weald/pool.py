"""Groups and pools of greenlets."""
from weald._core import Greenlet, GreenletExit, Queue, Semaphore, Timeout, getcurrent
from weald.event import Event
from weald.greenlet import joinall
from weald.hub import kill as _kill
from weald.lock import DummySemaphore
from weald.queue import Full as QueueFull

__all__ = ["Group", "Pool", "PoolFull"]


class Failure:
    """An exception on its way through the queue of results."""

    __slots__ = ("exc", "raise_exception")

    def __init__(self, exc, raise_exception=None):
        self.exc, self.raise_exception = exc, raise_exception


class IMapUnordered(Greenlet):
    """Maps a function over an iterable; itself an iterator over the results, as they come."""

    _ordered = False

    def __init__(self, func, iterable, spawn, maxsize=None, _zipped=False):
        Greenlet.__init__(self)
        self.spawn = spawn
        self._zipped = _zipped
        self.func = func
        self.iterable = iterable
        self.queue = Queue()
        self._result_semaphore = Semaphore(maxsize) if maxsize else None
        self._told = self._on_result
        self._outstanding_tasks = 0
        self._max_index = -1
        self.finished = False

    def __iter__(self):
        return self

    def __next__(self):
        if self._result_semaphore is not None:
            self._result_semaphore.release()
        value = self._inext()
        if type(value) is Failure:
            if value.raise_exception:
                value.raise_exception()
            raise value.exc
        return value

    next = __next__

    def _inext(self):
        return self.queue.get()

    def _ispawn(self, func, item, item_index):
        if self._result_semaphore is not None:
            self._result_semaphore.acquire()
        self._outstanding_tasks += 1
        g = self.spawn(func, *item) if self._zipped else self.spawn(func, item)
        if self._ordered:
            g._imap_task_index = item_index
        g.rawlink(self._told)
        return g

    def _run(self):
        try:
            func = self.func
            for item in self.iterable:
                self._max_index += 1
                self._ispawn(func, item, self._max_index)
            self._on_finish(None)
        except BaseException as e:
            self._on_finish(e)
            raise
        finally:
            self.spawn = self.func = self.iterable = self._result_semaphore = self._told = None

    def _on_result(self, greenlet):
        self._outstanding_tasks -= 1
        last = self._outstanding_tasks <= 0 and not self.finished and self.ready()
        if last:
            self.finished = True
        self.queue.put(self._success(greenlet) if greenlet.successful() else self._failure(greenlet))
        if last:
            self.queue.put(self._end())

    def _on_finish(self, exception):
        if self.finished:
            return
        if exception is not None:
            self.finished = True
            self.queue.put(self._own_failure(exception))
        elif self._outstanding_tasks <= 0:
            self.finished = True
            self.queue.put(self._end())

    def _success(self, greenlet):
        return greenlet.value

    def _failure(self, greenlet):
        return Failure(greenlet.exception, greenlet._raise_exception)

    def _end(self):
        return Failure(StopIteration())

    def _own_failure(self, exception):
        return Failure(exception, self._raise_exception)


class IMap(IMapUnordered):
    """As IMapUnordered, but results come in the order of the iterable."""

    _ordered = True

    def __init__(self, *args, **kwargs):
        self._results = {}
        self.index = 0
        IMapUnordered.__init__(self, *args, **kwargs)

    def _inext(self):
        try:
            value = self._results.pop(self.index)
        except KeyError:
            while True:
                index, value = self.queue.get()
                if index == self.index:
                    break
                self._results[index] = value
        self.index += 1
        return value

    def _success(self, greenlet):
        return greenlet._imap_task_index, greenlet.value

    def _failure(self, greenlet):
        return greenlet._imap_task_index, IMapUnordered._failure(self, greenlet)

    def _end(self):
        return self._max_index + 1, IMapUnordered._end(self)

    def _own_failure(self, exception):
        return self._max_index + 1, IMapUnordered._own_failure(self, exception)


class GroupMappingMixin:
    """apply, map and imap for whatever can spawn."""

    __slots__ = ()

    def spawn(self, func, *args, **kwargs):
        raise NotImplementedError

    def _apply_immediately(self):
        raise NotImplementedError

    def _apply_async_use_greenlet(self):
        raise NotImplementedError

    def _apply_async_cb_spawn(self, callback, result):
        raise NotImplementedError

    def apply_cb(self, func, args=None, kwds=None, callback=None):
        result = self.apply(func, args, kwds)
        if callback is not None:
            self._apply_async_cb_spawn(callback, result)
        return result

    def apply_async(self, func, args=None, kwds=None, callback=None):
        """Calls the function in a greenlet, which is returned; never waits."""
        args, kwds = args or (), kwds or {}
        if self._apply_async_use_greenlet():
            return Greenlet.spawn(self.apply_cb, func, args, kwds, callback)
        greenlet = self.spawn(func, *args, **kwds)
        if callback is not None:
            greenlet.link(pass_value(callback))
        return greenlet

    def apply(self, func, args=None, kwds=None):
        """Calls the function in a greenlet and waits for what it returns."""
        args, kwds = args or (), kwds or {}
        if self._apply_immediately():
            return func(*args, **kwds)
        return self.spawn(func, *args, **kwds).get()

    def __map(self, func, iterable):
        return [g.get() for g in [self.spawn(func, i) for i in iterable]]

    def map(self, func, iterable):
        """A list of what the function returns for each item; all run at the same time."""
        return Greenlet.spawn(self.__map, func, iterable).get()

    def map_cb(self, func, iterable, callback=None):
        result = self.map(func, iterable)
        if callback is not None:
            callback(result)
        return result

    def map_async(self, func, iterable, callback=None):
        return Greenlet.spawn(self.map_cb, func, iterable, callback)

    def __imap(self, kind, func, iterables, maxsize=None):
        return kind.spawn(func, zip(*iterables), spawn=self.spawn, _zipped=True, maxsize=maxsize)

    def imap(self, func, *iterables, **kwargs):
        """imap(func, *iterables, maxsize=None): an iterator over the results, in order; at most maxsize unread."""
        return self.__imap(IMap, func, iterables, **kwargs)

    def imap_unordered(self, func, *iterables, **kwargs):
        """As imap, as they come."""
        return self.__imap(IMapUnordered, func, iterables, **kwargs)


class Group(GroupMappingMixin):
    """Greenlets that are waited for, or killed, together. One that has ended leaves it."""

    greenlet_class = Greenlet

    def __init__(self, *args):
        assert len(args) <= 1, args
        self.greenlets = set(*args)
        if args:
            for greenlet in args[0]:
                greenlet.rawlink(self._discard)
        self.dying = set()
        self._empty_event = Event()
        self._empty_event.set()

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} {self.greenlets}>"

    def __len__(self):
        return len(self.greenlets)

    def __contains__(self, greenlet):
        return greenlet in self.greenlets

    def __iter__(self):
        return iter(self.greenlets)

    def add(self, greenlet):
        rawlink = getattr(greenlet, "rawlink", None)
        if rawlink is not None:  # the main greenlet has none
            rawlink(self._discard)
        self.greenlets.add(greenlet)
        self._empty_event.clear()

    def _discard(self, greenlet):
        self.greenlets.discard(greenlet)
        if self.dying:
            self.dying.discard(greenlet)
        if not self.greenlets:
            self._empty_event.set()

    def discard(self, greenlet):
        self._discard(greenlet)
        unlink = getattr(greenlet, "unlink", None)
        if unlink is not None:
            unlink(self._discard)

    def start(self, greenlet):
        self.add(greenlet)
        greenlet.start()

    def spawn(self, *args, **kwargs):
        greenlet = self.greenlet_class(*args, **kwargs)
        self.start(greenlet)
        return greenlet

    def join(self, timeout=None, raise_error=False):
        """Waits until the group is empty; whether it is."""
        greenlets = list(self.greenlets) if raise_error else ()
        result = self._empty_event.wait(timeout=timeout)
        for greenlet in greenlets:
            if greenlet.exception is not None:
                if hasattr(greenlet, "_raise_exception"):
                    greenlet._raise_exception()
                raise greenlet.exception
        return result

    def kill(self, exception=GreenletExit, block=True, timeout=None):
        """Kills all, and those that join meanwhile."""
        timer = Timeout._start_new_or_dummy(timeout)
        try:
            while self.greenlets:
                for greenlet in list(self.greenlets):
                    if greenlet in self.dying:
                        continue
                    if hasattr(greenlet, "kill"):
                        greenlet.kill(exception, block=False)
                    else:
                        _kill(greenlet, exception)
                    self.dying.add(greenlet)
                if not block:
                    break
                joinall(list(self.greenlets))
                self._let_links_run()
        except Timeout as late:
            if late is not timer:
                raise
        finally:
            timer.cancel()

    def _let_links_run(self):
        """Those that have ended leave the group in the hub."""
        if self.greenlets and all(g.dead for g in self.greenlets):
            self._empty_event.wait()

    def killone(self, greenlet, exception=GreenletExit, block=True, timeout=None):
        if greenlet not in self.dying and greenlet in self.greenlets:
            greenlet.kill(exception, block=False)
            self.dying.add(greenlet)
            if block:
                greenlet.join(timeout)

    def full(self):
        return False

    def wait_available(self, timeout=None):
        pass

    def _apply_immediately(self):
        # Waiting for one of our own in one of our own might wait for ever.
        return getcurrent() in self

    def _apply_async_cb_spawn(self, callback, result):
        Greenlet.spawn(callback, result)

    def _apply_async_use_greenlet(self):
        return self.full()


class PoolFull(QueueFull):
    """A pool had no room in time."""


class Pool(Group):
    """A group of at most `size` greenlets: spawn waits for room."""

    def __init__(self, size=None, greenlet_class=None):
        if size is not None and size < 0:
            raise ValueError(f"size must not be negative: {size!r}")
        Group.__init__(self)
        self.size = size
        if greenlet_class is not None:
            self.greenlet_class = greenlet_class
        self._semaphore = DummySemaphore(size) if size is None else Semaphore(size)

    def wait_available(self, timeout=None):
        return self._semaphore.wait(timeout=timeout)

    def full(self):
        return self.free_count() <= 0

    def free_count(self):
        return 1 if self.size is None else max(0, self.size - len(self))

    def start(self, greenlet, *args, **kwargs):
        self.add(greenlet, *args, **kwargs)
        greenlet.start()

    def add(self, greenlet, blocking=True, timeout=None):
        if not self._semaphore.acquire(blocking=blocking, timeout=timeout):
            # What was made for nothing must not run.
            raise PoolFull()
        try:
            Group.add(self, greenlet)
        except:  # noqa: E722
            self._semaphore.release()
            raise

    def _discard(self, greenlet):
        Group._discard(self, greenlet)
        self._semaphore.release()


class pass_value:
    """Calls the callback with the value of what has ended, if it ended well."""

    __slots__ = ("callback",)

    def __init__(self, callback):
        self.callback = callback

    def __call__(self, source):
        if source.successful():
            self.callback(source.value)

    def __hash__(self):
        return hash(self.callback)

    def __eq__(self, other):
        return self.callback == getattr(other, "callback", other)

    def __str__(self):
        return str(self.callback)

    def __repr__(self):
        return repr(self.callback)

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "callback"), name)
