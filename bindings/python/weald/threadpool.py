"""A pool of native threads, for what would block the loop: `hub.threadpool`, and pools of one's own.

A task goes into a queue between threads; its result comes back by an async watcher of the hub that asked, and from
there to an AsyncResult.
"""
import concurrent.futures
import os
import sys
from concurrent.futures import _base

from weald import monkey
from weald._threading import EmptyTimeout, Queue, get_thread_ident, start_new_thread
from weald.event import AsyncResult
from weald.exceptions import InvalidThreadUseError
from weald.greenlet import Greenlet, greenlet as RawGreenlet
from weald.hub import get_hub, get_hub_if_exists, getcurrent, sleep
from weald.lock import Semaphore
from weald.pool import GroupMappingMixin
from weald.timeout import Timeout
from weald.util import clear_stack_frames

__all__ = ["ThreadPool", "ThreadResult", "ThreadPoolExecutor"]


def _format_hub(hub):
    if hub is None:
        return "<missing>"
    return f"<{type(hub).__name__} at {id(hub):#x} thread_ident={hub.thread_ident:#x}>"


def _get_thread_profile():
    threading = sys.modules.get("threading")
    return None if threading is None else threading._profile_hook


def _get_thread_trace():
    threading = sys.modules.get("threading")
    return None if threading is None else threading._trace_hook


class _WorkerGreenlet(RawGreenlet):
    """What runs in a thread of the pool: a greenlet, so that a task sees one of its own and may have a hub."""

    greenlet_tree_is_root = True
    _thread_ident = 0
    _hub = None
    _hub_of_worker = None

    def __init__(self, threadpool):
        RawGreenlet.__init__(self)
        self._hub = threadpool.hub
        self._stderr = monkey.get_original("sys", "stderr")
        self._queue = threadpool.task_queue
        self._cookie = self._queue.allocate_cookie()
        self._idle_timeout = threadpool._idle_task_timeout
        self._unregister = threadpool._unregister_worker
        self._on_exit = threadpool._on_worker_exit
        threadpool._register_worker(self)
        try:
            start_new_thread(self._begin, ())
        except BaseException:
            self._unregister(self)
            raise

    def _begin(self):
        main = self.parent = getcurrent()
        self._thread_ident = get_thread_ident()
        main.greenlet_tree_is_ignored = True
        try:
            self.switch()
        except BaseException:
            # Said where it happened; a thread has nobody to tell.
            pass

    def run(self):
        task = None
        told_to_stop = False
        try:
            while True:
                self._prepare_hub()
                try:
                    task = self._queue.get(self._cookie, self._idle_timeout)
                except EmptyTimeout:
                    return
                try:
                    if task is None:
                        told_to_stop = True
                        return
                    self._run_task(*task)
                    task = None
                finally:
                    self._queue.task_done()
        except Exception as problem:
            self._report(task, problem)
        finally:
            task = None
            self.cleanup(get_hub_if_exists())
            if not told_to_stop:
                self._on_exit()

    def _prepare_hub(self):
        # A task may have made one. Waiting for the next task is no blocking of that hub.
        hub = get_hub_if_exists()
        if hub is not None:
            hub.name = "ThreadPool Worker Hub"
            if hub.periodic_monitoring_thread is not None:
                hub.periodic_monitoring_thread.ignore_current_greenlet_blocking()
            self._hub_of_worker = hub

    def _run_task(self, func, args, kwargs, result):
        try:
            self._before_run_task(func, args, kwargs, result)
        except BaseException:
            result.handle_error((self, func), sys.exc_info())
            raise
        try:
            result.set(func(*args, **kwargs))
        except BaseException:
            result.handle_error((self, func), sys.exc_info())
        finally:
            self._after_run_task(func, args, kwargs, result)
            del func, args, kwargs, result

    # What they use can be replaced by a caller: a subclass for tests does.
    def _before_run_task(self, func, args, kwargs, thread_result, _sys=sys,
                         _get_thread_profile=_get_thread_profile, _get_thread_trace=_get_thread_trace):  # fmt: skip
        profile, trace = _get_thread_profile(), _get_thread_trace()
        if profile is not None:
            _sys.setprofile(profile)
        if trace is not None:
            _sys.settrace(trace)

    def _after_run_task(self, func, args, kwargs, thread_result, _sys=sys):
        for has, drop in (_sys.getprofile, _sys.setprofile), (_sys.gettrace, _sys.settrace):
            if has() is not None:
                drop(None)

    def _report(self, task, problem):
        print(f"Failed to run worker thread. Task={task!r} Exception={problem!r}", file=self._stderr)
        # By hand: `traceback` would read source files, and another import may be waiting for this thread.
        tb = problem.__traceback__
        while tb is not None:
            code = tb.tb_frame.f_code
            print(f'  File "{code.co_filename}", line {tb.tb_lineno}, in {code.co_name}', file=self._stderr)
            tb = tb.tb_next

    def cleanup(self, hub_of_worker):
        if self._hub is not None:
            self._hub = None
            self._unregister(self)
            self._unregister = self._queue = self._cookie = None
        if hub_of_worker is not None:
            hub_of_worker.destroy(True)

    def __repr__(self):
        return (
            f"<ThreadPoolWorker at {id(self):#x} thread_ident={self._thread_ident:#x} "
            f"threadpool-hub={_format_hub(self._hub)}>"
        )


class ThreadPool(GroupMappingMixin):
    """At most `maxsize` native threads, started when there is work and ended when idle for `idle_task_timeout`.

    It has what a Pool has: spawn, apply, map, imap ... It belongs to the thread that made it. len() is the number of
    tasks that are not done.
    """

    _WorkerGreenlet = _WorkerGreenlet

    def __init__(self, maxsize, hub=None, idle_task_timeout=-1):
        self.hub = get_hub() if hub is None else hub
        self.pid = os.getpid()
        self.manager = None
        self.task_queue = Queue()
        self._idle_task_timeout = idle_task_timeout
        self._workers = set()
        self._maxsize = 0
        # One more than there are threads: a thread that is done finds the next task waiting.
        self._free = Semaphore(1, self.hub)
        self.fork_watcher = None
        self._set_maxsize(maxsize)
        self.fork_watcher = self.hub.loop.fork(ref=False)

    def __repr__(self):
        return (
            f"<{type(self).__name__} at {id(self):#x} tasks={len(self)} size={self.size} maxsize={self.maxsize} "
            f"hub={_format_hub(self.hub)}>"
        )

    def __len__(self):
        return self.task_queue.unfinished_tasks

    # ---- how many threads ----

    def _register_worker(self, worker):
        self._workers.add(worker)

    def _unregister_worker(self, worker):
        self._workers.discard(worker)

    def _on_worker_exit(self):
        # In the worker's thread: one that became idle, or died, just when a task came.
        if self.task_queue.unfinished_tasks:
            self.hub.loop.run_callback_threadsafe(self.adjust)

    @property
    def maxsize(self):
        """The most threads, and so roughly the most tasks before spawn blocks."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, value):
        self._set_maxsize(value)

    def _set_maxsize(self, maxsize):
        if not isinstance(maxsize, int):
            raise TypeError(f"maxsize must be integer: {maxsize!r}")
        if maxsize < 0:
            raise ValueError(f"maxsize must not be negative: {maxsize!r}")
        more = maxsize - self._maxsize
        self._maxsize = maxsize
        self._free.counter += more
        self.adjust()
        if more > 0:
            self._free._start_notify()

    @property
    def size(self):
        """How many threads there are now. Setting it starts or ends some."""
        return len(self._workers)

    @size.setter
    def size(self, size):
        if size < 0:
            raise ValueError(f"Size of the pool cannot be negative: {size!r}")
        if size > self._maxsize:
            raise ValueError(f"Size of the pool cannot be bigger than maxsize: {size!r} > {self._maxsize!r}")
        if self.manager:
            self.manager.kill()
        while len(self._workers) < size:
            self._add_thread()
        delay = self.hub.loop.approx_timer_resolution
        while len(self._workers) > size:
            while len(self._workers) - size > self.task_queue.unfinished_tasks:
                self.task_queue.put(None)
            if getcurrent() is self.hub:
                break
            sleep(delay)
            delay = min(delay * 2, 0.05)
        self._watch_forks()

    def _watch_forks(self):
        if self.fork_watcher is None:
            return
        if self._workers:
            self.fork_watcher.start(self._on_fork)
        else:
            self.fork_watcher.stop()

    def _on_fork(self):
        if os.getpid() == self.pid:
            return
        # In the child: the threads are gone, and what they held is ours to let go.
        frames = sys._current_frames()
        for worker in list(self._workers):
            clear_stack_frames(frames.get(worker._thread_ident))
            worker.cleanup(worker._hub_of_worker)
            worker.__dict__.clear()
        self.task_queue.kill()
        self.__init__(self._maxsize)

    def _adjust_step(self):
        while len(self._workers) < self._maxsize and self.task_queue.unfinished_tasks > len(self._workers):
            self._add_thread()
        while len(self._workers) - self._maxsize > self.task_queue.unfinished_tasks:
            self.task_queue.put(None)
        self._watch_forks()

    def _adjust_wait(self):
        delay = self.hub.loop.approx_timer_resolution
        while True:
            self._adjust_step()
            if len(self._workers) <= self._maxsize:
                return
            sleep(delay)
            delay = min(delay * 2, 0.05)

    def adjust(self):
        """Starts threads that there is work for, and ends those above maxsize."""
        self._adjust_step()
        if not self.manager and len(self._workers) > self._maxsize:
            self.manager = Greenlet.spawn(self._adjust_wait)

    def _add_thread(self):
        self._WorkerGreenlet(self)

    def join(self):
        """Waits until all tasks are done."""
        delay = max(0.0005, self.hub.loop.approx_timer_resolution)
        while self.task_queue.unfinished_tasks > 0:
            sleep(delay)
            delay = min(delay * 2, 0.05)

    def kill(self):
        """Ends all threads once they are done with their tasks."""
        self.size = 0
        self.fork_watcher.close()

    # ---- tasks ----

    def spawn(self, func, *args, **kwargs):
        """Runs func in a thread, waiting first until one may take it. Returns an AsyncResult."""
        if self.hub is not get_hub():
            raise InvalidThreadUseError("a thread pool belongs to the thread that made it")
        while True:
            semaphore = self._free
            semaphore.acquire()
            # After a fork there is another.
            if semaphore is self._free:
                break
        result = AsyncResult()
        thread_result = None
        try:
            thread_result = ThreadResult(result, self.hub, semaphore.release)
            self.task_queue.put((func, args, kwargs, thread_result))
            self.adjust()
        except BaseException:
            semaphore.release()
            if thread_result is not None:
                thread_result.destroy_in_main_thread()
            raise
        return result

    def _is_inside(self):
        # In a worker, apply is a plain call: waiting for another thread of the same pool could be for ever.
        return get_hub() is not self.hub


class _Nothing:
    """Takes the place of what a ThreadResult no longer needs."""

    def send(self):
        pass

    close = stop = send

    def __call__(self, result=None):
        pass

    def __bool__(self):
        return False


_nothing = _Nothing()


class ThreadResult:
    """Carries one result from a thread to the hub that waits for it. Made and destroyed in the hub's thread."""

    __slots__ = ("exc_info", "async_watcher", "_call_when_ready", "value", "context", "hub", "receiver")

    def __init__(self, receiver, hub, call_when_ready):
        self.receiver = receiver
        self.hub = hub
        self.context = self.value = None
        self.exc_info = ()
        self._call_when_ready = call_when_ready
        self.async_watcher = hub.loop.async_()
        self.async_watcher.start(self._on_async)

    @property
    def exception(self):
        return self.exc_info[1] if self.exc_info else None

    def _close_watcher(self):
        watcher, self.async_watcher = self.async_watcher, _nothing
        watcher.stop()
        watcher.close()

    def _on_async(self):
        self._close_watcher()
        try:
            self._call_when_ready()
            if self.exc_info:
                self.hub.handle_error(self.context, *self.exc_info)
            self.context = self.hub = None
            self._call_when_ready = _nothing
            self.receiver(self)
        finally:
            self.receiver = _nothing
            self.value = None
            if self.exc_info:
                # The traceback holds the frames of the task.
                self.exc_info = (*self.exc_info[:2], None)

    def destroy_in_main_thread(self):
        """Gives up a result that nobody will send."""
        self._close_watcher()
        self.context = self.hub = None
        self._call_when_ready = self.receiver = _nothing

    # Called in the worker's thread.
    def handle_error(self, context, exc_info):
        """The task failed."""
        self.context, self.exc_info = context, exc_info
        self.async_watcher.send()

    def set(self, value):
        """The task returned."""
        self.value = value
        self.async_watcher.send()

    def successful(self):
        return self.exception is None


class _Future:
    """Makes an AsyncResult look like a future to concurrent.futures, and leaves it what weald.wait can wait for."""

    def __init__(self, asyncresult):
        self.asyncresult = asyncresult

    @property
    def _condition(self):
        # as_completed and wait take it; it can only be waited for where it is of greenlets, or need not be.
        if not (monkey.is_module_patched("threading") or self.done()):
            raise AttributeError("_condition")
        condition = self.__dict__.get("_own_condition")
        if condition is None:
            import threading

            condition = self._own_condition = threading.Condition()
        return condition

    @property
    def _waiters(self):
        waiters = self.__dict__.get("_own_waiters")
        if waiters is None:
            waiters = self._own_waiters = []
            self.asyncresult.rawlink(self._tell_waiters)
        return waiters

    def _tell_waiters(self, _):
        for waiter in self._waiters:
            (waiter.add_result if self.successful() else waiter.add_exception)(self)

    @property
    def _state(self):
        return _base.FINISHED if self.done() else _base.RUNNING

    def set_running_or_notify_cancel(self):
        """It runs."""

    def result(self, timeout=None):
        try:
            return self.asyncresult.result(timeout=timeout)
        except Timeout:
            raise concurrent.futures.TimeoutError() from None

    def exception(self, timeout=None):
        try:
            self.asyncresult.wait(timeout=timeout)
            if not self.asyncresult.ready():
                raise concurrent.futures.TimeoutError()
        except Timeout:
            raise concurrent.futures.TimeoutError() from None
        return self.asyncresult.exception

    def add_done_callback(self, fn):
        if self.done():
            fn(self)
            return

        def call(_):
            try:
                fn(self)
            except Exception:
                self.asyncresult.hub.print_exception((fn, self), *sys.exc_info())

        self.asyncresult.rawlink(call)

    def rawlink(self, fn):
        self.asyncresult.rawlink(lambda _: fn(self))

    def __str__(self):
        return str(self.asyncresult)

    def __getattr__(self, name):
        if name == "asyncresult":
            raise AttributeError(name)
        return getattr(self.asyncresult, name)


class ThreadPoolExecutor(concurrent.futures.ThreadPoolExecutor):
    """The standard executor over native threads, even where threading is patched; its futures wait cooperatively."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._threadpool = ThreadPool(self._max_workers)

    def submit(self, fn, *args, **kwargs):
        with self._shutdown_lock:
            if self._shutdown:
                raise RuntimeError("cannot schedule new futures after shutdown")
            return _Future(self._threadpool.spawn(fn, *args, **kwargs))

    def shutdown(self, wait=True, **kwargs):
        super().shutdown(wait, **kwargs)
        pool, self._threadpool = self._threadpool, None
        if pool is not None:
            pool.kill()

    kill = shutdown

    def _adjust_thread_count(self):
        """The pool has its own threads."""
