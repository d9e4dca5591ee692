"""asyncio and greenlets side by side in one thread.

An event loop that waits on weald's hub: while no coroutine can go on, greenlets do. ::

    async def main():
        page = await weald.asyncio.wrap(weald.spawn(fetch, url))   # a coroutine waits for a greenlet

    weald.asyncio.run(main())                                      # in this greenlet; others go on

    page = weald.asyncio.wait(client.get(url))                     # a greenlet waits for a coroutine

`asyncio.run(main(), loop_factory=weald.asyncio.EventLoop)` (from 3.12 on), a `Runner`, or `EventLoopPolicy` do for
programs that start asyncio by themselves. Each greenlet may run a loop of its own: asyncio knows one running loop a
thread, so a loop that waits is not the running one meanwhile. A coroutine that calls what blocks a greenlet (a patched
`time.sleep`) blocks its loop, as it would without weald, but nobody else.
"""
import asyncio as _asyncio
import contextlib as _contextlib
import selectors as _selectors
import threading as _threading
from asyncio import events as _events

from weald._core import AsyncResult as _AsyncResult
from weald._core import GreenletExit as _GreenletExit
from weald._core import getcurrent as _getcurrent
from weald._core import sleep as _sleep
from weald._core import spawn as _spawn
from weald._core import wait_fd as _wait_fd

__all__ = ["EventLoop", "EventLoopPolicy", "new_event_loop", "run", "wait", "wrap"]


@_contextlib.contextmanager
def _no_running_loop():
    """Other greenlets may run loops, and must not take ours for theirs."""
    running = _events._get_running_loop()
    _events._set_running_loop(None)
    try:
        yield
    finally:
        _events._set_running_loop(running)


class _Selector(_selectors.EpollSelector):
    """Asks the kernel without waiting, and waits on the hub."""

    def select(self, timeout=None):
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            with _no_running_loop():
                _sleep(0)  # a busy loop leaves greenlets their turn
            return ready
        with _no_running_loop(), _contextlib.suppress(TimeoutError):
            _wait_fd(self.fileno(), 1, timeout)
        return super().select(0)


class EventLoop(_asyncio.SelectorEventLoop):
    """asyncio's own loop, but where it would sleep in the kernel its greenlet waits."""

    def __init__(self):
        super().__init__(_Selector())


class _ThreadsLoop(EventLoop):
    """A loop that goes with its thread, without a word."""

    def __del__(self):
        if not self.is_running():
            self.close()


def new_event_loop():
    return EventLoop()


class EventLoopPolicy(_asyncio.DefaultEventLoopPolicy):
    """`asyncio.set_event_loop_policy(weald.asyncio.EventLoopPolicy())`: every new loop is one of ours."""

    _loop_factory = EventLoop


def run(main, *, debug=None):
    """`asyncio.run` on a loop of ours: runs the coroutine `main` to its end, while other greenlets go on."""
    if hasattr(_asyncio, "Runner"):
        with _asyncio.Runner(debug=debug, loop_factory=EventLoop) as runner:
            return runner.run(main)
    if _events._get_running_loop() is not None:
        raise RuntimeError("weald.asyncio.run() cannot be called from a running event loop")
    loop = EventLoop()
    try:
        loop.set_debug(bool(debug))
        return loop.run_until_complete(main)
    finally:
        _end(loop)


def _end(loop):
    """What asyncio.run does when its coroutine has ended."""
    try:
        left = _asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(_asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def wrap(greenlet, loop=None):
    """A future for what `greenlet` returns or raises. Cancelling it kills the greenlet; killing that cancels it."""
    loop = loop or _asyncio.get_running_loop()
    future = loop.create_future()

    def deliver():
        if future.done():
            return
        if not greenlet.successful():
            future.set_exception(greenlet.exception)
        elif isinstance(greenlet.value, _GreenletExit):
            future.cancel()
        else:
            future.set_result(greenlet.value)

    def given_up(future):
        if future.cancelled():
            greenlet.kill(block=False)

    # Links are called by the hub, while the loop waits: it has to be woken.
    greenlet.rawlink(lambda _: loop.is_closed() or loop.call_soon_threadsafe(deliver))
    future.add_done_callback(given_up)
    return future


class _Background(_threading.local):
    """This thread's loop for greenlets that wait for coroutines. It runs while one does."""

    def __init__(self):
        self.loop = None
        self.greenlet = None
        self.waits = 0

    def start(self):
        if self.loop is None or self.loop.is_closed():
            self.loop = _ThreadsLoop()
        if self.greenlet is None or self.greenlet.dead:
            self.greenlet = _spawn(self.serve)

    def serve(self):
        # Somebody may have begun to wait while the loop came to its end.
        while self.waits:
            self.loop.run_until_complete(self.until_idle())

    async def until_idle(self):
        """What the coroutines have left running goes on until its end as well."""
        me = _asyncio.current_task()
        while others := _asyncio.all_tasks() - {me}:
            await _asyncio.wait(others)


_background = _Background()


def wait(awaitable, timeout=None):
    """Waits, in a greenlet, for a coroutine or another awaitable; what it returns or raises.

    It runs in a loop that all greenlets of the thread share. When `timeout` seconds have passed (weald.Timeout), or the
    greenlet is killed, it is cancelled.
    """
    mine = _background
    if _getcurrent() is mine.greenlet:
        raise RuntimeError("the loop that would run it waits for this very call: await it instead")
    result, tasks = _AsyncResult(), []

    def begin():
        task = _asyncio.ensure_future(_ending(awaitable), loop=mine.loop)
        tasks.append(task)
        task.add_done_callback(deliver)

    def deliver(task):
        if task.cancelled():
            result.set_exception(_asyncio.CancelledError())
        elif task.exception() is not None:
            result.set_exception(task.exception())
        else:
            result.set(task.result())

    mine.waits += 1
    with _no_running_loop():
        try:
            mine.start()
            mine.loop.call_soon_threadsafe(begin)
            return result.get(timeout=timeout)
        except BaseException:
            mine.loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            raise
        finally:
            mine.waits -= 1


async def _ending(awaitable):
    return await awaitable
