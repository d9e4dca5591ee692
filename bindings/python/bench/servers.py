"""Rows whose work is a server's, or that need somebody else's server.

The server is a process of its own on one core, and the client (client.c, or ab) on another. What counts is the server's
CPU time over a fixed number of requests, by its CPU clock; its children's with it.
"""
import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from table import Skipped, cpu, row

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))
import support  # noqa: E402

PEERS_OF_WSGI = ("uvicorn", "bjoern", "fastwsgi")


def needed(*packages, **programs):
    """Installs, or says what is missing: programs are name="package of Debian"."""
    try:
        support.need(*packages)
        for name, package in programs.items():
            support.need_program(name, package)
    except unittest.SkipTest as reason:
        raise Skipped(str(reason)) from None


# ---- processes, each on its core ----


def cores():
    """The server's and the client's."""
    all_of_them = sorted(os.sched_getaffinity(0))
    return all_of_them[0], all_of_them[-1]


@contextlib.contextmanager
def started(words, core, **more):
    process = subprocess.Popen(
        [str(word) for word in words], preexec_fn=lambda: os.sched_setaffinity(0, {core}), start_new_session=True, **more
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def family(pid):
    """A process and those that it has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_of(pid):
    """Seconds of CPU that a process and its children have used. The clocks count nanoseconds, /proc only ticks."""
    # How clock_getcpuclockid(3) makes the number of a process's clock.
    return sum(time.clock_gettime((~member << 3) | 2) for member in family(pid))


def memory_of(pid):
    statm = Path(f"/proc/{pid}/statm").read_text().split()
    return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")


def client_program():
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise Skipped("no C compiler for the client")
    program = Path(tempfile.gettempdir()) / f"weald-bench-client-{os.getuid()}"
    if not program.exists() or program.stat().st_mtime < (HERE / "client.c").stat().st_mtime:
        fresh = program.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", fresh, HERE / "client.c"], check=True)
        fresh.rename(program)
    return program


@contextlib.contextmanager
def serving(words, **more):
    """A server's process and its port, when it takes connections. PORT among the words stands for it."""
    port = support.free_port()
    words = [str(word).replace("PORT", str(port)) for word in words]
    with tempfile.TemporaryFile("w+") as log, started(words, cores()[0], stdout=log, stderr=log, **more) as process:
        for _ in range(1000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(f"{words} ended: {log.read()[-500:]}")
            time.sleep(0.01)
        yield process.pid, port


def ours(kind, who):
    return [sys.executable, HERE / "serve.py", kind, who, "PORT"]


def serve(kind, who, connections, requests, asks, path="/", words=None, **more):
    """Nanoseconds of the server's CPU for a request."""
    program = client_program()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with serving(words or ours(kind, who), **more) as (pid, port):
        with started([program, port, connections, requests, asks, path], cores()[1], **pipes) as client:
            hear(client, "ready")
            time.sleep(0.05)
            began = cpu_of(pid)
            client.stdin.write("go\n")
            hear(client, "done")
            return (cpu_of(pid) - began) / requests * 1e9


def hear(client, word):
    heard = client.stdout.readline().strip()
    if heard != word:
        raise RuntimeError(f"the client said {heard!r} for {word!r}")


# ---- echo ----

PEERS_OF_ECHO = ("asyncio", "uvloop", "uvloop-protocol")


@row("TCP echo, 1 connection, server CPU", 0.85, beside=PEERS_OF_ECHO)
def echo_1(who):
    return serve("echo", peer(who), 1, 20000, "echo")


@row("TCP echo, 100 connections, server CPU", 0.6, beside=PEERS_OF_ECHO)
def echo_100(who):
    return serve("echo", peer(who), 100, 50000, "echo")


@row("TCP echo, 1000 connections, server CPU", 0.5, beside=PEERS_OF_ECHO)
def echo_1000(who):
    return serve("echo", peer(who), 1000, 50000, "echo")


def peer(who):
    """Installs it if it is somebody else's."""
    name = who.partition("-")[0]
    if name == "uvicorn":
        needed("uvicorn", "uvloop", "httptools")
    elif name in ("uvloop", "bjoern", "fastwsgi"):
        needed(name)
    return who


# ---- pywsgi ----


@row("pywsgi, 100 kept connections", 1 / 5, beside=PEERS_OF_WSGI)
def wsgi_keep(who):
    return serve("http", peer(who), 100, 20000, "keep")


@row("pywsgi, chunked, 100 kept connections", 1 / 3.5, beside=PEERS_OF_WSGI)
def wsgi_chunked(who):
    return serve("http", peer(who), 100, 10000, "keep", "/chunked")


@row("pywsgi, a connection each, 100 at once", 1 / 3, beside=PEERS_OF_WSGI)
def wsgi_close(who):
    return serve("http", peer(who), 100, 10000, "close")


@row("pywsgi, ab -n 10000 -c 100", 1 / 3, beside=PEERS_OF_WSGI)
def wsgi_ab(who):
    needed(ab="apache2-utils")
    with serving(ours("http", peer(who))) as (pid, port):
        for count in 1000, 10000:
            began = cpu_of(pid)
            with started(["ab", "-q", "-n", count, "-c", 100, f"http://127.0.0.1:{port}/"], cores()[1],
                         stdout=subprocess.PIPE, text=True) as ab:  # fmt: skip
                said, _ = ab.communicate(timeout=100)
            if ab.returncode or "Failed requests:        0" not in said:
                raise RuntimeError(f"ab: {said[-300:]}")
        return (cpu_of(pid) - began) / count * 1e9


@row("gunicorn -k gevent, 100 kept connections", 0.6)
def gunicorn(who):
    needed("gunicorn", "packaging")
    words = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-b", "127.0.0.1:PORT", "--log-level", "critical", "serve:hello"]
    env = {key: value for key, value in os.environ.items() if key != "WEALD_AS_GEVENT"}
    if who == "weald":
        env["WEALD_AS_GEVENT"] = "1"
    return serve(None, who, 100, 10000, "keep", words=words, cwd=HERE, env=env)


# ---- WebSocket ----


@row("gevent-websocket, echo, 100 connections", 0.6)
def gevent_websocket(who):
    needed("gevent-websocket=geventwebsocket")
    return serve("websocket", "alias" if who == "weald" else who, 100, 10000, "websocket")


@row("weald.websocket for gevent-websocket, echo", 1 / 4)
def own_websocket(who):
    needed("gevent-websocket=geventwebsocket")
    return serve("websocket", who, 100, 20000, "websocket")


# ---- long poll ----

POLLS = 5000


def longpoll(who):
    """Memory of a request that waits, and the CPU for its coming and for its answer, in ns."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < POLLS + 100:
        raise Skipped(f"only {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    program = client_program()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with serving(ours("longpoll", who)) as (pid, port):
        support.get(port, "/first")  # what it loads for it is nobody's
        with started([program, port, POLLS, 0, "poll"], cores()[1], **pipes) as client:
            hear(client, "ready")
            memory, used = memory_of(pid), cpu_of(pid)
            client.stdin.write("go\n")
            hear(client, "parked")
            settle(pid)
            memory, parking = (memory_of(pid) - memory) / POLLS, cpu_of(pid) - used
            used = cpu_of(pid)
            support.get(port, "/go")
            client.stdin.write("go\n")
            hear(client, "done")
            return memory, parking / POLLS * 1e9, (cpu_of(pid) - used) / POLLS * 1e9


def settle(pid):
    """Until it does nothing any more."""
    used, still = -1, 0
    while still < 4:
        time.sleep(0.05)
        still = still + 1 if cpu_of(pid) == used else 0
        used = cpu_of(pid)


@row("5000 long polls, memory of one", 0.6, "bytes")
def longpoll_memory(who):
    return longpoll(who)[0]


@row("5000 long polls, one comes, server CPU", 1 / 3)
def longpoll_park(who):
    return longpoll(who)[1]


@row("5000 long polls, one is answered", 1 / 3)
def longpoll_broadcast(who):
    return longpoll(who)[2]


# ---- databases ----


def patched(who):
    """The library, patched in; under gevent's names for packages that know them."""
    if who == "weald":
        import weald

        weald.install_as_gevent()
    from gevent import monkey

    monkey.patch_all()
    import gevent

    return gevent


def fifty(gevent, work, count):
    """CPU of one of `count` calls in each of 50 greenlets. work(n) makes what is called."""
    calls = [work(n) for n in range(50)]

    def body(call):
        for _ in range(count):
            call()

    return cpu(lambda: gevent.joinall([gevent.spawn(body, call) for call in calls], raise_error=True), 50 * count)


@row("Redis, GET by 50 greenlets", 0.7, service="Redis")
def redis_get(who):
    needed("redis")
    gevent = patched(who)
    import redis

    clients = redis.Redis(port=int(os.environ["WEALD_BENCH_PORT"]))
    clients.set("key", "value")
    return fifty(gevent, lambda n: lambda: clients.get("key"), 200)


@row("PostgreSQL, SELECT 1 by 50 greenlets", 0.7, service="Postgres")
def postgres_select(who):
    needed("psycopg2-binary=psycopg2", "psycogreen")
    gevent = patched(who)
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
    import psycopg2

    def work(n):
        cursor = psycopg2.connect(
            host="127.0.0.1", port=os.environ["WEALD_BENCH_PORT"], user="weald", dbname="postgres"
        ).cursor()

        def call():
            cursor.execute("select 1")
            cursor.fetchone()

        return call

    return fifty(gevent, work, 100)
