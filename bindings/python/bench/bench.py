"""weald and gevent side by side: the same programs in the same run, in turns, each in a process of its own.

    python bench.py [--rounds N] [--quick] [ROW ...]        a table of medians and ratios; `--list` names the rows
    python bench.py --one ROW weald|gevent                  what a process does: prints one number

Figures are CPU time per operation, unless a row says otherwise. A row's target is the most that weald may take of what
gevent takes. gevent comes from PyPI, into the interpreter that runs this.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROWS = {}


def row(name, target, unit="ns"):
    def register(function):
        ROWS[name] = function, target, unit
        return function

    return register


def cpu(work, operations):
    """Nanoseconds of CPU time for each operation; the least of three."""
    best = None
    for _ in range(3):
        begin = time.process_time()
        work()
        used = (time.process_time() - begin) / operations * 1e9
        best = used if best is None else min(best, used)
    return best


def both(g, one, other):
    g.joinall([g.spawn(one), g.spawn(other)])


def nothing(*args):
    pass


@row("sleep(0), 2 greenlets", 0.1)
def yield_2(g, n=100000):
    return yields(g, n, 2)


@row("sleep(0), 1000 greenlets", 0.1)
def yield_1000(g, n=300000):
    return yields(g, n, 1000)


def yields(g, n, greenlets):
    def body():
        sleep = g.sleep
        for _ in range(n // greenlets):
            sleep(0)

    return cpu(lambda: g.joinall([g.spawn(body) for _ in range(greenlets)]), n)


@row("spawn and join, one by one", 1 / 15)
def spawn_one(g, n=30000):
    def work():
        for _ in range(n):
            g.spawn(nothing).join()

    return cpu(work, n)


@row("spawn and join, 1000 at a time", 1 / 15)
def spawn_batch(g, n=50000):
    def work():
        for _ in range(n // 1000):
            g.joinall([g.spawn(nothing) for _ in range(1000)])

    return cpu(work, n)


@row("raw switch", 0.5)
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


@row("raw spawn and run", 1 / 15)
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


@row("queue ping-pong, a hand-over", 1 / 8)
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


@row("event set and wait", 1 / 8)
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


@row("semaphore hand-off", 1 / 8)
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


@row("AsyncResult set and get", 1 / 8)
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


@row("queue of 100, an item", 0.5)
def queue_100(g, n=300000):
    queue = module(g, "queue").Queue(100)

    def one():
        for _ in range(n):
            queue.put(1)

    def other():
        for _ in range(n):
            queue.get()

    return cpu(lambda: both(g, one, other), n)


@row("RLock, free", 0.2)
def rlock(g, n=300000):
    lock = module(g, "lock").RLock()

    def work():
        acquire, release = lock.acquire, lock.release
        for _ in range(n):
            acquire()
            release()

    return cpu(work, n)


@row("Pool(100).imap_unordered, an item", 1 / 8)
def imap(g, n=30000):
    def work():
        for _ in module(g, "pool").Pool(100).imap_unordered(nothing, range(n)):
            pass

    return cpu(work, n)


@row("Group().map, an item", 1 / 8)
def group_map(g, n=20000):
    return cpu(lambda: module(g, "pool").Group().map(nothing, range(n)), n)


@row("Pool(100).spawn, a greenlet", 1 / 8)
def pool_spawn(g, n=20000):
    def work():
        pool = module(g, "pool").Pool(100)
        for _ in range(n):
            pool.spawn(nothing)
        pool.join()

    return cpu(work, n)


@row("Timeout that does not fire", 0.2)
def timeout(g, n=100000):
    Timeout = g.Timeout

    def work():
        for _ in range(n):
            with Timeout(10):
                pass

    return cpu(work, n)


@row("100k sleeps at once, CPU of all", 1 / 8, "ms")
def sleeps(g, n=100000):
    begin = time.process_time()
    greenlets = [g.spawn(g.sleep, 0.5 + (i % 100) / 1000) for i in range(n)]
    g.joinall(greenlets)
    return (time.process_time() - begin) * 1e3


@row("100k sleeps at once, p99 late", 0.17, "ms")
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

    before = rss()
    greenlets = [g.spawn(deep, 4) for _ in range(n)]
    g.sleep(0)
    g.sleep(0.001)
    figure = then(before)
    done.set()
    g.joinall(greenlets)
    return figure


@row("memory of a parked greenlet, 5 frames", 0.6, "bytes")
def memory(g, n=50000):
    return park(g, n, lambda before: (rss() - before) / n)


@row("gc.collect() with 100k parked", 0.4, "ms")
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


@row("import, CPU", 0.3, "ms")
def import_it(g):
    return in_python(f"import {g.__name__}")


@row("monkey.patch_all(), CPU", 0.4, "ms")
def patch(g):
    return in_python(f"from {g.__name__} import monkey; monkey.patch_all()")


def in_python(code):
    """Milliseconds of CPU time that the code takes in an interpreter of its own."""
    program = f"import time; begin = time.process_time(); exec({code!r}); print(time.process_time() - begin)"
    return min(float(subprocess.check_output([sys.executable, "-c", program])) for _ in range(3)) * 1e3


@row("installed size", 0.5, "bytes")
def size(g):
    total = 0
    for name in {"weald": ["weald"], "gevent": ["gevent", "greenlet"]}[g.__name__]:
        where = os.path.dirname(__import__(name).__file__)
        for directory, _, files in os.walk(where):
            if "__pycache__" not in directory:
                total += sum(os.path.getsize(os.path.join(directory, file)) for file in files)
    return total


def echo(g, connections, requests):
    """A server's CPU time for a request, its clients being in another process."""
    server = module(g, "server").StreamServer(("127.0.0.1", 0), serve_echo)
    server.start()
    client = subprocess.Popen(
        [sys.executable, __file__, "--client", str(server.server_port), str(connections), str(requests)],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    os.set_blocking(client.stdout.fileno(), False)
    wait_read = module(g, "socket").wait_read
    wait_read(client.stdout.fileno())  # it has connected
    client.stdout.read()
    begin = time.process_time()
    wait_read(client.stdout.fileno())
    used = time.process_time() - begin
    client.wait()
    server.stop()
    return used / (requests * connections) * 1e9


def serve_echo(sock, address):
    while True:
        data = sock.recv(4096)
        if not data:
            return
        sock.sendall(data)


def client(port, connections, requests):
    """Keeps all connections busy with one request each; no library but select."""
    import select
    import socket

    socks = {}
    poll = select.epoll()
    for _ in range(connections):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        socks[sock.fileno()] = [sock, requests]
        poll.register(sock, select.EPOLLIN)
    time.sleep(0.2)
    os.write(1, b"x")
    time.sleep(0.1)
    left = connections
    for sock, _ in socks.values():
        sock.send(b"a line of text for the echo\n")
    while left:
        for fd, _ in poll.poll():
            entry = socks[fd]
            entry[0].recv(4096)
            entry[1] -= 1
            if entry[1]:
                entry[0].send(b"a line of text for the echo\n")
            else:
                left -= 1
                poll.unregister(fd)
    os.write(1, b"y")


@row("TCP echo, 1 connection, server CPU", 0.85)
def echo_1(g):
    return echo(g, 1, 5000)


@row("TCP echo, 100 connections, server CPU", 0.6)
def echo_100(g):
    return echo(g, 100, 150)


@row("TCP echo, 1000 connections, server CPU", 0.5)
def echo_1000(g):
    return echo(g, 1000, 20)


@row("getaddrinfo of a number", 0.25)
def getaddrinfo(g, n=100):
    socket = module(g, "socket")

    def work():
        g.joinall([g.spawn(socket.getaddrinfo, "127.0.0.1", 80) for _ in range(n)])

    return cpu(work, n)


def one(name, library):
    return ROWS[name][0](__import__(library))


def run(name, library):
    command = [sys.executable, __file__, "--one", name, library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        print(f"{name}: {library} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(done.stdout)


def shown(figure, unit):
    if unit == "bytes":
        return f"{figure / 1024:,.1f} KiB" if figure < 1 << 20 else f"{figure / (1 << 20):,.1f} MiB"
    return f"{figure:,.1f} {unit}" if figure < 100 else f"{figure:,.0f} {unit}"


def main():
    if sys.argv[1:2] == ["--one"]:
        return print(one(*sys.argv[2:4]))
    if sys.argv[1:2] == ["--client"]:
        return client(*map(int, sys.argv[2:5]))
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("rows", nargs="*", help="parts of the names of rows")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument("--json", help="a file for the medians")
    arguments = arguments.parse_args()
    names = [name for name in ROWS if not arguments.rows or any(part in name for part in arguments.rows)]
    if arguments.list:
        return print("\n".join(names))
    import gevent

    print(f"CPython {sys.version.split()[0]}, gevent {gevent.__version__}; medians of {arguments.rounds}\n")
    print(f"| {'work':40} | {'weald':>12} | {'gevent':>12} | ratio | target |\n|---|---:|---:|---:|---:|")
    medians, late = {}, []
    for name in names:
        _, target, unit = ROWS[name]
        figures = {"weald": [], "gevent": []}
        for _ in range(arguments.rounds):
            for library in figures:
                figure = run(name, library)
                if figure is not None:
                    figures[library].append(figure)
        if not all(figures.values()):
            late.append(name)
            continue
        ours, theirs = (statistics.median(f) for f in figures.values())
        ratio = ours / theirs if theirs else float("inf")
        medians[name] = {"weald": ours, "gevent": theirs, "ratio": ratio, "target": target}
        missed = "" if ratio <= target else " *"
        if missed:
            late.append(name)
        print(f"| {name:40} | {shown(ours, unit):>12} | {shown(theirs, unit):>12} | {ratio:5.3f} | {target:5.3f}{missed} |",
              flush=True)  # fmt: skip
    print(f"\n{len(names) - len(late)} of {len(names)} rows meet their target" + (" (* does not)" if late else ""))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(medians, file, indent=1)


if __name__ == "__main__":
    main()
