"""Rows that one process works through by itself, with weald or with gevent. A row returns one figure.

`coroutines.py` has the same work for asyncio and uvloop, where they have the like.
"""
import os
import subprocess
import sys
import time

from table import cpu, row

LOOPS = ("asyncio", "uvloop")


def primitive(name, target, unit="ns", beside=()):
    """A row whose function gets the package, weald or gevent; for other names coroutines.py has the work."""

    def register(work):
        def of(who):
            if who in ("weald", "gevent"):
                return work(__import__(who))
            import coroutines  # only here: asyncio is not to be counted with weald or gevent

            return coroutines.run(name, who)

        row(name, target, unit, beside)(of)
        return work

    return register


def both(g, one, other):
    g.joinall([g.spawn(one), g.spawn(other)])


def nothing(*args):
    pass


@primitive("sleep(0), 2 greenlets", 0.1, beside=LOOPS)
def yield_2(g, n=100000):
    return yields(g, n, 2)


@primitive("sleep(0), 1000 greenlets", 0.1, beside=LOOPS)
def yield_1000(g, n=300000):
    return yields(g, n, 1000)


def yields(g, n, greenlets):
    def body():
        sleep = g.sleep
        for _ in range(n // greenlets):
            sleep(0)

    return cpu(lambda: g.joinall([g.spawn(body) for _ in range(greenlets)]), n)


@primitive("spawn and join, one by one", 1 / 15, beside=LOOPS)
def spawn_one(g, n=30000):
    def work():
        for _ in range(n):
            g.spawn(nothing).join()

    return cpu(work, n)


@primitive("spawn and join, 1000 at a time", 1 / 15, beside=LOOPS)
def spawn_batch(g, n=50000):
    def work():
        for _ in range(n // 1000):
            g.joinall([g.spawn(nothing) for _ in range(1000)])

    return cpu(work, n)


@primitive("raw switch", 0.5)
def raw_switch(g, n=300000):
    from_greenlet = raw(g)

    def body():
        switch = from_greenlet.getcurrent().parent.switch
        while True:
            switch()

    other = from_greenlet.greenlet(body)
    switch = other.switch
    switch()

    def work():
        for _ in range(n):
            switch()

    return cpu(work, 2 * n)


@primitive("raw spawn and run", 1 / 15)
def raw_spawn(g, n=30000):
    greenlet = raw(g).greenlet

    def work():
        for _ in range(n):
            greenlet(nothing).switch()

    return cpu(work, n)


def raw(g):
    if g.__name__ == "weald":
        import weald.greenlet

        return weald.greenlet
    import greenlet

    return greenlet


def module(g, name):
    return __import__(f"{g.__name__}.{name}", fromlist=["x"])


@primitive("queue ping-pong, a hand-over", 1 / 8, beside=LOOPS)
def queue_pingpong(g, n=50000):
    there, back = module(g, "queue").Queue(), module(g, "queue").Queue()

    def one():
        for _ in range(n):
            there.put(1)
            back.get()

    def other():
        for _ in range(n):
            there.get()
            back.put(1)

    return cpu(lambda: both(g, one, other), 2 * n)


@primitive("event set and wait", 1 / 8, beside=LOOPS)
def event(g, n=50000):
    there, back = module(g, "event").Event(), module(g, "event").Event()

    def one():
        for _ in range(n):
            there.set()
            back.wait()
            back.clear()

    def other():
        for _ in range(n):
            there.wait()
            there.clear()
            back.set()

    return cpu(lambda: both(g, one, other), 2 * n)


@primitive("semaphore hand-off", 1 / 8, beside=LOOPS)
def semaphore(g, n=50000):
    there, back = module(g, "lock").Semaphore(0), module(g, "lock").Semaphore(0)

    def one():
        for _ in range(n):
            there.release()
            back.acquire()

    def other():
        for _ in range(n):
            there.acquire()
            back.release()

    return cpu(lambda: both(g, one, other), 2 * n)


@primitive("AsyncResult set and get", 1 / 8, beside=LOOPS)
def result(g, n=30000):
    AsyncResult = module(g, "event").AsyncResult
    queue = module(g, "queue").Queue()

    def one():
        for _ in range(n):
            promise = AsyncResult()
            queue.put(promise)
            promise.get()

    def other():
        for _ in range(n):
            queue.get().set(1)

    return cpu(lambda: both(g, one, other), n)


@primitive("queue of 100, an item", 0.5, beside=LOOPS)
def queue_100(g, n=300000):
    queue = module(g, "queue").Queue(100)

    def one():
        for _ in range(n):
            queue.put(1)

    def other():
        for _ in range(n):
            queue.get()

    return cpu(lambda: both(g, one, other), n)


@primitive("RLock, free", 0.2)
def rlock(g, n=300000):
    lock = module(g, "lock").RLock()

    def work():
        acquire, release = lock.acquire, lock.release
        for _ in range(n):
            acquire()
            release()

    return cpu(work, n)


@primitive("Pool(100).imap_unordered, an item", 1 / 8)
def imap(g, n=30000):
    def work():
        for _ in module(g, "pool").Pool(100).imap_unordered(nothing, range(n)):
            pass

    return cpu(work, n)


@primitive("Group().map, an item", 1 / 8)
def group_map(g, n=20000):
    return cpu(lambda: module(g, "pool").Group().map(nothing, range(n)), n)


@primitive("Pool(100).spawn, a greenlet", 1 / 8)
def pool_spawn(g, n=20000):
    def work():
        pool = module(g, "pool").Pool(100)
        for _ in range(n):
            pool.spawn(nothing)
        pool.join()

    return cpu(work, n)


@primitive("Timeout that does not fire", 0.2, beside=LOOPS)
def timeout(g, n=100000):
    Timeout = g.Timeout

    def work():
        for _ in range(n):
            with Timeout(10):
                pass

    return cpu(work, n)


@primitive("100k sleeps at once, CPU of all", 1 / 8, "ms", beside=LOOPS)
def sleeps(g, n=100000):
    begin = time.process_time()
    greenlets = [g.spawn(g.sleep, 0.5 + (i % 100) / 1000) for i in range(n)]
    g.joinall(greenlets)
    return (time.process_time() - begin) * 1e3


@primitive("100k sleeps at once, p99 late", 0.17, "ms", beside=LOOPS)
def sleeps_late(g, n=100000):
    late = []

    def body(due):
        g.sleep(max(0, due - time.perf_counter()))
        late.append(time.perf_counter() - due)

    start = time.perf_counter() + 4
    g.joinall([g.spawn(body, start + (i % 1000) / 1000) for i in range(n)])
    return sorted(late)[int(n * 0.99)] * 1e3


def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def park(g, n, then):
    done = module(g, "event").Event()

    def deep(level):
        if level:
            return deep(level - 1)
        done.wait()

    # What the first one has loaded is nobody's.
    first = g.spawn(deep, 4)
    g.sleep(0.001)
    done.set()
    first.join()
    done.clear()
    before = rss()
    greenlets = [g.spawn(deep, 4) for _ in range(n)]
    g.sleep(0)
    g.sleep(0.001)
    figure = then(before)
    done.set()
    g.joinall(greenlets)
    return figure


@primitive("memory of a parked greenlet, 5 frames", 0.6, "bytes")
def memory(g, n=50000):
    return park(g, n, lambda before: (rss() - before) / n)


@primitive("gc.collect() with 100k parked", 0.4, "ms")
def collect(g, n=100000):
    import gc

    def then(before):
        gc.collect()
        return min(timed(gc.collect) for _ in range(3)) * 1e3

    return park(g, n, then)


def timed(f):
    begin = time.process_time()
    f()
    return time.process_time() - begin


@primitive("import, CPU", 0.3, "ms")
def import_it(g):
    return in_python(f"import {g.__name__}")


@primitive("monkey.patch_all(), CPU", 0.4, "ms")
def patch(g):
    return in_python(f"from {g.__name__} import monkey; monkey.patch_all()")


def in_python(code):
    """Milliseconds of CPU time that the code takes in an interpreter of its own."""
    program = f"import time; begin = time.process_time(); exec({code!r}); print(time.process_time() - begin)"
    return min(float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(3)) * 1e3


@primitive("installed size", 0.5, "bytes")
def size(g):
    """What pip brings: a distribution and those that it can not do without; not what the interpreter compiles."""
    from importlib.metadata import files

    needs = {"weald": [], "gevent": ["greenlet", "zope.event", "zope.interface"]}
    brought = [file for name in (g.__name__, *needs[g.__name__]) for file in files(name)]
    return sum(file.locate().stat().st_size for file in brought if "__pycache__" not in file.parts)


@primitive("getaddrinfo of a number", 0.25)
def getaddrinfo(g, n=100):
    socket = module(g, "socket")

    def work():
        g.joinall([g.spawn(socket.getaddrinfo, "127.0.0.1", 80) for _ in range(n)])

    return cpu(work, n)
