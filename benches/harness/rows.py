"""What is measured: jobs, the rows they yield, and the target of each row.

A job is one run of one program (`PROGRAM WORD NUMBER...`); it prints one or more metrics,
and each metric is a row of the result. All counts stand here, for every language.
"""

from dataclasses import dataclass

# Kinds of peers. A loop has callbacks and no stacks; a floor is no library at all.
GREEN, LOOP, FLOOR = "green", "loop", "floor"
BEST = "best"


@dataclass(frozen=True)
class Limit:
    """Ours is at most `factor` times `against` (a peer, BEST), or at most `factor` itself."""

    factor: float
    against: str = ""
    strict: bool = False  # "ahead of" instead of "at most"

    def allows(self, ours, reference):
        bound = self.factor * reference if self.against else self.factor
        return ours < bound if self.strict else ours <= bound

    def __str__(self):
        if not self.against:
            return f"<= {self.factor:g}"
        name = "best peer" if self.against == BEST else self.against
        if self.factor == 1:
            return f"{'<' if self.strict else '<='} {name}"
        return f"<= {self.factor:g} x {name}"


def at_most(value):
    return Limit(value)


def ratio(factor, against=BEST):
    return Limit(factor, against)


def ahead_of(against):
    return Limit(1, against, strict=True)


@dataclass(frozen=True)
class Row:
    title: str
    metric: str
    unit: str
    limits: tuple = ()


@dataclass(frozen=True)
class Job:
    name: str
    word: str  # the row's name on the programs' command line
    numbers: tuple
    quick: tuple  # smaller numbers, for a smoke test
    rows: tuple
    count: int = -1  # which number is a mere repeat count, that a slow peer may have less of
    best_of: tuple = (GREEN,)  # the kinds that "best peer" is chosen from
    slow: bool = False
    timeout: float = 90
    client: str = ""  # the program serves, and client.c drives it: its row, with the numbers

    def command(self, quick, scale):
        numbers = list(self.quick if quick else self.numbers)
        if self.count >= 0:
            numbers[self.count] = max(1, numbers[self.count] // scale)
        return [str(n) for n in numbers]


def simple(name, word, numbers, quick, title, *limits, **more):
    """A job of one row, in ns."""
    return Job(name, word, numbers, quick, (Row(title, "ns", "ns", limits),), **more)


def parked(title, limit_spawn, limit_maps):
    """The rows of a burst: many alive at once, all waiting for the same thing."""
    return (
        Row(f"{title}: cold spawn", "spawn", "ns", (limit_spawn,)),
        Row(f"{title}: wake + join", "join", "ns", (ahead_of(BEST),)),
        Row(f"{title}: RSS each", "rss", "B", (at_most(4.5 * 1024),)),
        Row(f"{title}: page tables each", "page_tables", "B"),
        Row(f"{title}: mappings", "mappings", "", (at_most(limit_maps),)),
        Row(f"{title}: RSS left after it", "left", "%", (at_most(25),)),
    )


def echoed(connections, requests, *limits):
    """A server at so many connections: what a request costs it, and how long the client waits."""
    n = f"{connections:,}"
    rows = (
        Row(f"echo at {n}: server CPU each", "cpu", "ns", limits),
        Row(f"echo at {n}: client waits, median", "p50", "ns"),
        Row(f"echo at {n}: client waits, 99 of 100", "p99", "ns", (ratio(1.1, "epoll"),)),
    )
    return Job(f"echo-{connections}", "echo", (connections, requests), (min(connections, 200), 400), rows,
               client="echo", best_of=ALL)


def called(connections, requests, limit):
    rows = (Row(f"echo at {connections}: system calls each", "calls", "", (at_most(limit),)),)
    return Job(f"calls-{connections}", "echo", (connections, requests), (connections, 400), rows,
               client="calls", best_of=ALL)


ALL = (GREEN, LOOP)
ECHO = (ratio(1.1, "epoll"), *map(ahead_of, ("libuv", "libevent", "go", "tokio", "may")))
WITH_ST = ECHO + (ahead_of("st"),)

CONNECTED = (
    Row("10,000 idle connections: RSS each, new", "rss_new", "B", (at_most(8.4 * 1024),)),
    Row("10,000 idle connections: RSS each, after one request", "rss_used", "B", (at_most(8.4 * 1024),)),
)

STREAMS = (
    Row("10,000 idle streams: RSS each, new", "rss_new", "B", (at_most(4.6 * 1024),)),
    Row("10,000 idle streams: RSS each, after one line", "rss_used", "B", (at_most(8.4 * 1024),)),
)

PROCESS = (
    Row("spawn and wait of /bin/true: own CPU", "own", "ns", (ahead_of("libuv"), ahead_of("go"))),
    Row("spawn and wait of /bin/true: CPU, the child's included", "both", "ns", (ratio(1.1, "libc"),)),
)

IDLE = (
    Row("idle: wake-ups in a second", "wakeups", "", (at_most(0),)),
    Row("idle: CPU in a second", "cpu", "us", (at_most(0),)),
)

FD_LIMITS = (ratio(1.15, "epoll"), ahead_of("libuv"))

JOBS = (
    simple("switch", "switch", (20_000_000,), (200_000,),
           "raw switch round trip, main and one", at_most(15), count=0),
    simple("switch-two", "switch2", (20_000_000,), (200_000,),
           "raw switch round trip, two coroutines", at_most(15), count=0),
    simple("yield-2", "yield", (2, 10_000_000), (2, 100_000),
           "yield, 2", ratio(0.7), count=1),
    simple("yield-1000", "yield", (1000, 10_000_000), (1000, 100_000),
           "yield, 1000", ratio(0.7), count=1),
    simple("yield-100000", "yield", (100_000, 5_000_000), (2000, 100_000),
           "yield, 100,000", ahead_of(BEST), count=1),
    simple("spawn", "spawn", (1000, 1000), (1000, 10),
           "spawn + join, warm", ratio(0.8), count=1),
    simple("rendezvous", "rendezvous", (4_000_000,), (40_000,),
           "rendezvous, per message", ratio(0.5), count=0),
    simple("queue", "queue", (100, 10_000_000), (100, 100_000),
           "queue of 100, per item", ratio(1), count=1),
    simple("semaphore", "semaphore", (4_000_000,), (40_000,),
           "semaphore hand-off", ratio(0.5), count=0),
    simple("mutex", "mutex", (4_000_000,), (40_000,),
           "mutex held over a yield", ratio(0.5), count=0),
    simple("pingpong", "pingpong", (150_000,), (2000,),
           "socketpair ping-pong", *FD_LIMITS, count=0, best_of=(GREEN, LOOP)),
    simple("ring", "ring", (1000, 100, 400_000), (1000, 100, 4000),
           "1000 socketpairs, 100 active, per hop", *FD_LIMITS, count=2, best_of=(GREEN, LOOP)),
    echoed(1, 20_000, *WITH_ST),
    echoed(100, 60_000, *WITH_ST),
    echoed(1000, 60_000, *WITH_ST),
    echoed(10_000, 60_000, *ECHO),
    called(1, 4000, 3.05),
    called(100, 20_000, 2.1),
    Job("connected", "echo", (10_000,), (200,), CONNECTED, client="idle", best_of=(GREEN,)),
    Job("connected-streams", "lines", (10_000,), (200,), STREAMS, client="idle", best_of=(GREEN,)),
    Job("accept", "echo", (4000,), (200,),
        (Row("accept, one request, reset: server CPU", "cpu", "ns", (ratio(1.1, "epoll"),)),),
        client="accept", best_of=ALL),
    Job("file", "file", (40,), (2,),
        (Row("file to a socket: server CPU per MiB", "cpu", "ns", (ratio(1.1, "epoll"),)),),
        client="file", best_of=ALL),
    simple("connect", "connect", (4000,), (100,), "connect to a listener", ratio(1.1, "epoll"), best_of=ALL),
    Job("process", "process", (1000,), (20,), PROCESS, best_of=ALL),
    simple("name", "name", (2_000_000,), (20_000,), "a name of the cache, against /etc/hosts",
           ahead_of("libc"), best_of=ALL),
    # "Near tokio", which has no stacks to fault in, is taken as twice its time.
    simple("sleep-100000", "sleep", (100_000, 1000), (2000, 50),
           "100,000 sleeps of 1..1000 ms, CPU each", ahead_of("go"), ratio(2, "tokio")),
    # A million has to fit under the default vm.max_map_count, 65530: a tenth of that here.
    Job("park-100000", "park", (100_000,), (2000,),
        parked("100,000 alive", ratio(1, "go"), 6500)),
    Job("idle", "idle", (), (), IDLE, best_of=(GREEN, LOOP, FLOOR)),
    simple("sleep-1000000", "sleep", (1_000_000, 1000), (1_000_000, 1000),
           "1,000,000 sleeps of 1..1000 ms, CPU each", ahead_of("go"), slow=True, timeout=300),
    Job("park-1000000", "park", (1_000_000,), (1_000_000,),
        parked("1,000,000 alive", ratio(1, "go"), 65_000), slow=True, timeout=300),
)
