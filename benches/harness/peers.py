"""Who is measured: each program, how it is built, and which jobs it can do."""

from dataclasses import dataclass, field

from .rows import FLOOR, GREEN, LOOP

OURS = "weald"

SYNC = ("rendezvous", "queue", "semaphore", "mutex")
YIELDS = ("yield-2", "yield-1000", "yield-100000")
FDS = ("pingpong", "ring")
ECHO = ("echo-1", "echo-100", "echo-1000", "calls-1", "calls-100", "accept")
SERVER = ECHO + ("echo-10000", "connected")
BURST = ("sleep-100000", "park-100000")
MILLION = ("sleep-1000000", "park-1000000")
EVERYTHING = YIELDS + SYNC + FDS + SERVER + ("connect",) + BURST + MILLION + ("spawn", "idle")


@dataclass(frozen=True)
class Program:
    """Something to build. `language` picks the recipe in build.py."""

    name: str
    language: str  # c, c++, go, rust
    source: str = ""  # relative to benches/
    libraries: tuple = ()
    header: str = ""  # what a missing package is noticed by
    packages: tuple = ()  # of Debian; none: where the header is not installed, we do without


@dataclass(frozen=True)
class Peer:
    name: str
    program: Program
    jobs: tuple
    kind: str = GREEN
    scale: int = 1  # its repeat counts are divided by this: a slow peer need not take minutes
    words: dict = field(default_factory=dict)  # its own words for some jobs
    env: dict = field(default_factory=dict)


CLIENT = Program("client", "c", "client.c")
WEALD = Program(OURS, "c", "weald_bench.c", ("weald",))
ST = Program("st", "c", "peers/st.c", ("st",), "st.h", ("libst-dev",))
PTH = Program("pth", "c", "peers/pth.c", ("pth",), "pth.h", ("libpth-dev",))
LIBUV = Program("libuv", "c", "peers/libuv.c", ("uv",), "uv.h", ("libuv1-dev",))
LIBEV = Program("libev", "c", "peers/libev.c", ("ev",), "ev.h", ("libev-dev",))
LIBEVENT = Program("libevent", "c", "peers/libevent.c", ("event",), "event2/event.h", ("libevent-dev",))
EPOLL = Program("epoll", "c", "peers/epoll.c")
LIBC = Program("libc", "c", "peers/libc.c")
FIBER = Program("fiber", "c++", "peers/fiber.cpp", ("boost_fiber", "boost_context"),
                "boost/fiber/all.hpp", ("libboost-fiber-dev", "libboost-context-dev"))
SWITCH = Program("switch", "c++", "peers/switch.cpp", ("boost_context",),
                 "boost/context/fiber.hpp", ("libboost-context-dev",))
DILL = Program("libdill", "c", "peers/dill.c", ("dill",), "libdill.h")
GO = Program("go", "go", "go", packages=("golang-go",))
TOKIO = Program("tokio_bench", "rust")
MAY = Program("may_bench", "rust")
COROSENSEI = Program("corosensei_bench", "rust")

PEERS = (
    Peer(OURS, WEALD, EVERYTHING + ("switch", "switch-two", "file", "process", "connected-streams", "name")),
    # Debian's State Threads waits with select(): no more than 1024 descriptors.
    Peer("st", ST, YIELDS + SYNC + ECHO + BURST + MILLION + ("spawn", "pingpong", "idle")),
    Peer("fiber", FIBER, YIELDS + SYNC + BURST + ("spawn", "idle")),
    Peer("go", GO, EVERYTHING + ("file", "process"), env={"GOMAXPROCS": "1"}),
    Peer("tokio", TOKIO, EVERYTHING),
    # Not packaged by Debian. With its guard pages it stops at about 32,000, as may does.
    Peer("libdill", DILL, YIELDS[:2] + FDS + SERVER + ("spawn", "rendezvous", "idle")),
    # may stops at about 32,000 coroutines, and its ring panics with one worker.
    # Its server has been seen to hang with many idle connections.
    Peer("may", MAY, YIELDS[:2] + SYNC + ECHO + ("echo-10000", "spawn", "pingpong", "idle")),
    # Pth has no channel, and its time grows with the number of those that wait.
    Peer("pth", PTH, YIELDS[:2] + ("spawn", "semaphore", "mutex", "pingpong", "idle"), scale=40),
    Peer("libuv", LIBUV, FDS + SERVER + ("sleep-100000", "sleep-1000000", "idle", "process"), LOOP),
    Peer("libev", LIBEV, FDS + SERVER + ("sleep-100000", "sleep-1000000", "idle"), LOOP),
    Peer("libevent", LIBEVENT, FDS + SERVER + ("sleep-100000", "sleep-1000000", "idle"), LOOP),
    Peer("epoll", EPOLL, FDS + SERVER + ("file", "connect") + ("idle",), FLOOR),
    Peer("libc", LIBC, ("process", "name"), FLOOR),
    Peer("corosensei", COROSENSEI, ("switch", "switch-two"), FLOOR),
    Peer("fcontext", SWITCH, ("switch", "switch-two"),
         words={"switch": "fcontext", "switch-two": "fcontext2"}),
    Peer("boost-context", SWITCH, ("switch",), words={"switch": "fiber"}),
    Peer("ucontext", SWITCH, ("switch", "switch-two"), scale=20,
         words={"switch": "ucontext", "switch-two": "ucontext2"}),
)
