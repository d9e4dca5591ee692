"""The primitive rows for coroutines: asyncio's loop, and uvloop's. The counts are those of rows.py."""
import asyncio
import time

from table import cpu

WORK = {}


def run(name, loop):
    """The figure of a row on a loop, "asyncio" or "uvloop"."""
    if loop == "uvloop":
        from servers import peer

        peer(loop)
        import uvloop as loops
    else:
        loops = asyncio
    return WORK[name](loops.new_event_loop())


def same_as(name):
    def register(work):
        WORK[name] = work
        return work

    return register


def measured(loop, main, operations):
    return cpu(lambda: loop.run_until_complete(main()), operations)


async def nothing():
    pass


@same_as("sleep(0), 2 greenlets")
def yield_2(loop):
    return yields(loop, 100000, 2)


@same_as("sleep(0), 1000 greenlets")
def yield_1000(loop):
    return yields(loop, 300000, 1000)


def yields(loop, n, tasks):
    async def body():
        sleep = asyncio.sleep
        for _ in range(n // tasks):
            await sleep(0)

    async def main():
        await asyncio.gather(*[body() for _ in range(tasks)])

    return measured(loop, main, n)


@same_as("spawn and join, one by one")
def spawn_one(loop, n=30000):
    async def main():
        for _ in range(n):
            await loop.create_task(nothing())

    return measured(loop, main, n)


@same_as("spawn and join, 1000 at a time")
def spawn_batch(loop, n=50000):
    async def main():
        for _ in range(n // 1000):
            await asyncio.gather(*[nothing() for _ in range(1000)])

    return measured(loop, main, n)


def pair(loop, n, make, hand_over, operations):
    """Two tasks that hand something over, there and back."""

    async def main():
        there, back = make(), make()
        one, other = hand_over
        await asyncio.gather(one(there, back, n), other(there, back, n))

    return measured(loop, main, operations)


@same_as("queue ping-pong, a hand-over")
def queue_pingpong(loop, n=50000):
    async def one(there, back, n):
        for _ in range(n):
            await there.put(1)
            await back.get()

    async def other(there, back, n):
        for _ in range(n):
            await there.get()
            await back.put(1)

    return pair(loop, n, asyncio.Queue, (one, other), 2 * n)


@same_as("event set and wait")
def event(loop, n=50000):
    async def one(there, back, n):
        for _ in range(n):
            there.set()
            await back.wait()
            back.clear()

    async def other(there, back, n):
        for _ in range(n):
            await there.wait()
            there.clear()
            back.set()

    return pair(loop, n, asyncio.Event, (one, other), 2 * n)


@same_as("semaphore hand-off")
def semaphore(loop, n=50000):
    async def one(there, back, n):
        for _ in range(n):
            there.release()
            await back.acquire()

    async def other(there, back, n):
        for _ in range(n):
            await there.acquire()
            back.release()

    return pair(loop, n, lambda: asyncio.Semaphore(0), (one, other), 2 * n)


@same_as("AsyncResult set and get")
def result(loop, n=30000):
    async def one(queue, _, n):
        for _ in range(n):
            promise = loop.create_future()
            await queue.put(promise)
            await promise

    async def other(queue, _, n):
        for _ in range(n):
            (await queue.get()).set_result(1)

    return pair(loop, n, asyncio.Queue, (one, other), n)


@same_as("queue of 100, an item")
def queue_100(loop, n=300000):
    async def one(queue, _, n):
        for _ in range(n):
            await queue.put(1)

    async def other(queue, _, n):
        for _ in range(n):
            await queue.get()

    return pair(loop, n, lambda: asyncio.Queue(100), (one, other), n)


@same_as("Timeout that does not fire")
def timeout(loop, n=100000):
    async def main():
        if hasattr(asyncio, "timeout"):
            for _ in range(n):
                async with asyncio.timeout(10):
                    pass
        else:
            for _ in range(n):
                await asyncio.wait_for(nothing(), 10)

    return measured(loop, main, n)


@same_as("100k sleeps at once, CPU of all")
def sleeps(loop, n=100000):
    async def main():
        await asyncio.gather(*[asyncio.sleep(0.5 + (i % 100) / 1000) for i in range(n)])

    begin = time.process_time()
    loop.run_until_complete(main())
    return (time.process_time() - begin) * 1e3


@same_as("100k sleeps at once, p99 late")
def sleeps_late(loop, n=100000):
    late = []

    async def body(due):
        await asyncio.sleep(max(0, due - time.perf_counter()))
        late.append(time.perf_counter() - due)

    async def main():
        start = time.perf_counter() + 4
        await asyncio.gather(*[body(start + (i % 1000) / 1000) for i in range(n)])

    loop.run_until_complete(main())
    return sorted(late)[int(n * 0.99)] * 1e3
