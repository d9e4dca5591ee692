"""Suite `http`: the server of tests/http/server.c among requests that others have collected, two other readers,
clients that are slow on purpose, and proxies in front of it. What is fetched for it lies in target/http."""

import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from . import build, process, tools

FOLDER = build.ROOT / "tests" / "http"
KEPT = build.TARGET / "http"
PROGRAM = KEPT / "server"

sys.path.insert(0, str(FOLDER))

import corpus  # noqa: E402
import differ  # noqa: E402
import talk  # noqa: E402
from vectors import HIDDEN, HONEST, VECTORS  # noqa: E402

DRAWN = 4000
REQUESTS = int(os.environ.get("WEALD_HTTP_REQUESTS", 200_000))
SEED = 20


def run(report, options):
    KEPT.mkdir(parents=True, exist_ok=True)
    with report.group("http") as group:
        built = build.compile_program(FOLDER / "server.c", PROGRAM, ["-Werror"])
        if built.status != 0:
            group.failed("compiles", built.output)
            return
    for name, part in (
        ("corpus", _corpus),
        ("vectors", _vectors),
        ("differ", _differ),
        ("slow", _slow),
        ("proxies", _proxies),
        ("tls", _tls),
        ("flat", _flat),
    ):
        if options.wants(name):
            with report.group(f"http:{name}") as group:
                part(group)


def _statuses(got):
    return [answer.status for answer in talk.answers(got)]


# ---- what others have collected ----


def _corpus(group):
    folder, reason = corpus.fetch(KEPT)
    if folder is None:
        group.skipped("gunicorn's requests", reason)
        return
    with talk.Server(PROGRAM) as strict, talk.Server(PROGRAM, "lenient=1", "underscores=1") as lenient:
        for path in sorted((folder / "invalid").glob("*.http")):
            if not corpus.refused_by_a_limit(path):
                statuses = _statuses(strict.ask(corpus.read(path)))
                # With the header left out that has an underscore the rest is a request like any other.
                allowed = path.stem == "040"
                group.check(f"{path.stem} is refused", 200 not in statuses or allowed, str(statuses))
        for path in sorted((folder / "valid").glob("*.http")):
            if path.stem not in corpus.STRICTER:
                statuses = _statuses(lenient.ask(corpus.read(path)))
                group.check(f"{path.stem} is served", set(statuses) == {200}, str(statuses))
        group.check("the servers live", strict.lives() and lenient.lives())


# ---- one request, or two? ----


def _vectors(group):
    with talk.Server(PROGRAM) as server:
        for name, request in VECTORS.items():
            whole = server.ask(request)
            statuses = _statuses(whole)
            if name in HONEST:
                group.check(name, statuses == [200, 200], str(statuses))
                continue
            seen = [a.understood.get("target") for a in talk.answers(whole)]
            group.check(name, b"/smuggled" not in seen and statuses[-1:] != [200], f"{statuses} {seen}")
            different = [
                at
                for at in range(1, len(request) - len(HIDDEN) + 2)
                if _statuses(server.ask(request[:at], request[at:])) != statuses
            ]
            group.check(f"{name}, cut anywhere", not different, f"not {statuses} when cut at {different}")


# ---- what other readers understand ----


def _readers():
    """The modules, from an environment of their own; or why not."""
    home = KEPT / "venv"
    python = home / "bin" / "python"
    if not python.exists():
        made = process.run([sys.executable, "-m", "venv", home], 120)
        if made.status != 0:
            return None, None, "no virtual environment: " + made.output[-200:]
    done = process.run([python, "-m", "pip", "install", "-q", "h11", "httptools"], 300)
    where = process.run(
        [python, "-c", "import h11, httptools, os; print(os.path.dirname(os.path.dirname(h11.__file__)))"], 60
    )
    if where.status != 0:
        return None, None, "h11 and httptools can not be installed: " + done.output[-200:]
    sys.path.append(where.output.strip().splitlines()[-1])
    import h11
    import httptools

    return h11, httptools, ""


def _differ(group):
    h11, httptools, reason = _readers()
    if h11 is None:
        group.skipped("h11 and httptools", reason)
        return
    wrong, taken, refused = [], 0, 0
    with talk.Server(PROGRAM, "underscores=1", "head=300", "body=300", "idle=300") as server:
        for request in differ.drawn(SEED, DRAWN):
            answers = talk.answers(server.ask(request))
            if not answers or answers[0].status != 200:
                refused += 1
                continue
            taken += 1
            ours = answers[0].understood
            # Empty lines before a request are not for h11's first read.
            for name, theirs in (
                ("h11", differ.by_h11(h11, request)),
                ("httptools", differ.by_httptools(httptools, request)),
            ):
                if theirs is None and name == "httptools":
                    continue  # it knows a list of methods, and no absolute target without a path
                if theirs is None or not differ.same(ours, theirs):
                    wrong.append(f"{name}: {request!r}\n  here {ours}\n  there {theirs}")
        for method, target in (("GET", "/"), ("HEAD", "/"), ("GET", "/large"), ("HEAD", "/large"), ("POST", "/x")):
            request = f"{method} {target} HTTP/1.1\r\nHost: oak\r\n\r\n".encode()
            said = differ.response_by_h11(h11, method, target, server.ask(request * 2))
            group.check(f"h11 understands the answers to {method} {target}", said == [200, 200], str(said))
        group.check("the server lives", server.lives())
    group.check(
        "some are taken and some refused", taken > DRAWN // 20 and refused > DRAWN // 20, f"{taken} and {refused}"
    )
    group.check("what is taken is understood alike", not wrong, f"{len(wrong)} of {taken}\n" + "\n".join(wrong[:5]))


# ---- those who take their time ----


def _trickle(server, first, each, every, seconds):
    """How long a client that says a little now and then is listened to, and what it is told."""
    began = time.monotonic()
    with server.connect() as client:
        client.settimeout(0.02)
        client.sendall(first)
        while time.monotonic() - began < seconds:
            try:
                client.sendall(each)
                if got := client.recv(4096):
                    return time.monotonic() - began, got
                break
            except TimeoutError:
                time.sleep(every)
            except OSError:
                break
    return time.monotonic() - began, b""


def _many(n, work):
    results = []
    threads = [threading.Thread(target=lambda: results.append(work())) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _slow(group):
    with talk.Server(PROGRAM, "head=500", "body=500", "write=500", "idle=500", "rate=1000") as server:
        heads = _many(50, lambda: _trickle(server, b"GET / HTTP/1.1\r\n", b"A: b\r\n", 0.05, 5))
        group.check(
            "a slow head is answered 408 in its time",
            all(0.4 < t < 2.5 and b" 408 " in got for t, got in heads),
            str(heads[:5]),
        )
        body = b"POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 1000000\r\n\r\n"
        bodies = _many(50, lambda: _trickle(server, body, b"x", 0.05, 5))
        group.check(
            "a slow body is answered 408 in its time",
            all(0.4 < t < 2.5 and b" 408 " in got for t, got in bodies),
            str(bodies[:5]),
        )
        steady = _trickle(server, body, b"x" * 200, 0.05, 1.2)
        group.check("a steady body is waited for", steady[0] > 1.1, str(steady))
        readers = _many(20, lambda: _does_not_read(server))
        group.check("who does not read is hung up on", all(readers), str(readers))
        group.check("and others are served", _statuses(server.ask(b"GET / HTTP/1.1\r\nHost: oak\r\n\r\n")) == [200])
    _slowhttptest(group)


def _does_not_read(server):
    """Whether the server gives up on one that asks for much and reads nothing: most of it never comes."""
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: oak\r\n\r\n" * 10)
        time.sleep(1.5)
        return len(talk.rest(client)) < 35 << 20


def _slowhttptest(group):
    if reason := tools.missing("slowhttptest"):
        group.skipped("slowhttptest", reason)
        return
    with talk.Server(PROGRAM, "head=2000", "body=2000", "write=2000", "idle=2000") as server:
        url = f"http://127.0.0.1:{server.port}/large"
        modes = {
            "slow headers": ["-H"],
            "slow bodies": ["-B", "-s", "100000"],
            "slow reading": ["-X", "-w", "10", "-y", "20", "-z", "5"],
        }
        for name, mode in modes.items():
            done = process.run(
                ["slowhttptest", *mode, "-c", "200", "-r", "200", "-i", "1", "-l", "8", "-p", "2", "-u", url], 60
            )
            group.check(
                f"slowhttptest finds the service available: {name}",
                "service available:   YES" in _plain(done.output) and server.lives(),
                _plain(done.output)[-1500:],
            )


def _plain(text):
    import re

    return re.sub("\x1b\\[[0-9;]*[a-zA-Z]", "", text)


# ---- behind a proxy ----

NGINX = """daemon off; worker_processes 1; error_log stderr crit; pid {home}/nginx.pid;
events {{ worker_connections 256; }}
http {{ access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
  upstream weald {{ server 127.0.0.1:{behind}; keepalive 4; }}
  server {{ listen 127.0.0.1:{port};
    location / {{ proxy_pass http://weald; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; }} }} }}
"""

HAPROXY = """global
    maxconn 256
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
    option http-keep-alive
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend weald
backend weald
    server one 127.0.0.1:{behind}
"""


def _proxies(group):
    for name, text, command in (
        ("nginx", NGINX, ["nginx", "-e", "stderr", "-c"]),
        ("haproxy", HAPROXY, ["haproxy", "-db", "-f"]),
    ):
        if reason := tools.missing(name):
            group.skipped(name, reason)
        else:
            _proxy(group, name, text, command)


def _proxy(group, name, text, command):
    home = KEPT / name
    home.mkdir(parents=True, exist_ok=True)
    with talk.Server(PROGRAM) as server:
        port = _free_port()
        (home / "conf").write_text(text.format(home=home, port=port, behind=server.port), encoding="ascii")
        front = subprocess.Popen([*command, str(home / "conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    talk.ask_openly(port, b"GET / HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n", 5)
                    break
                except OSError:
                    time.sleep(0.05)
            _through(group, name, port)
        finally:
            front.terminate()
            front.wait(10)


def _through(group, name, port):
    """A request of somebody's own never becomes another's, whatever came before it on the proxy's connection to us."""
    mixed = []
    for what, request in VECTORS.items():
        first = talk.answers(talk.ask_openly(port, request))
        seen = [a.understood.get("target") for a in first if a.status == 200]
        whose = talk.answers(talk.ask_openly(port, b"GET /mine HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n", 5))
        mine = [a.understood.get("target") for a in whose]
        # Two requests are two to both of them, or one: what matters is that they agree about it.
        if mine != [b"/mine"] or len(seen) > 2:
            mixed.append(f"{what}: {seen}, then {mine}")
    group.check(f"requests behind {name} are not mixed up", not mixed, "\n".join(mixed))
    large = b"x" * 300000
    sent = b"POST /big HTTP/1.1\r\nHost: oak\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n" + large
    got = talk.answers(talk.ask_openly(port, sent, 10))
    group.check(
        f"a large body comes through {name}",
        [a.understood.get("body") for a in got] == [large],
        str([a.status for a in got]),
    )


def _free_port():
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# ---- TLS that goes wrong ----


def _tls(group):
    """Hellos that break off, that are damaged, that are none; handshakes that nobody ends: each is hung up on in its
    time, and the next client is served."""
    trouble = build.certificates()
    if trouble:
        group.failed("certificates", trouble)
        return
    os.environ["WEALD_CERTIFICATES"] = str(build.CERTIFICATES)
    context = ssl.create_default_context(cafile=build.CERTIFICATES / "root.pem")
    hello = _hello(context)
    with talk.Server(PROGRAM, "handshake=700", "head=700", "idle=700") as server:

        def served():
            with context.wrap_socket(server.connect(), server_hostname="oak.test") as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n")
                return _statuses(talk.rest(client)) == [200] and server.lives()

        def told(said, ends):
            """How long it takes until the server hangs up, and what it says."""
            began = time.monotonic()
            with server.connect() as client:
                client.sendall(said)
                if ends:
                    client.shutdown(socket.SHUT_WR)
                got = talk.rest(client)
            return time.monotonic() - began, got

        def all_are_hung_up_on(what, all_said, ends):
            with ThreadPoolExecutor(16) as pool:
                took = list(pool.map(lambda said: told(said, ends), all_said))
            late = [t for t, _ in took if t > 5]
            group.check(f"{what}: hung up on", not late and served(), str(late))
            return [got for _, got in took]

        group.check("a client is served", served())
        drawn = random.Random(SEED)
        plain = all_are_hung_up_on("plain HTTP", [b"GET / HTTP/1.1\r\nHost: oak\r\n\r\n"], False)
        group.check("who speaks plain HTTP gets an alert and no page", plain[0][:1] == b"\x15", str(plain))
        all_are_hung_up_on("noise", [drawn.randbytes(500) for _ in range(100)], True)
        all_are_hung_up_on("hellos that break off", [hello[:at] for at in range(1, len(hello), 5)], True)
        damaged = [hello[:at] + bytes([hello[at] ^ 1 << drawn.randrange(8)]) + hello[at + 1 :] for at in range(len(hello))]
        all_are_hung_up_on("damaged hellos", damaged[:: max(1, len(damaged) // 120)], False)
        all_are_hung_up_on("handshakes that nobody ends", [hello] * 16 + [hello[:100]] * 16 + [b""] * 16, False)
        for _ in range(20):
            raw = server.connect()
            client = context.wrap_socket(raw, server_hostname="oak.test")
            client.sendall(b"POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 100\r\n\r\nhalf")
            os.close(client.detach())
        group.check("connections that are cut without a word do no harm", served())


def _hello(context):
    """The first thing that a client says."""
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="oak.test")
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


# ---- memory ----


def _flat(group):
    """Two hundred thousand requests (WEALD_HTTP_REQUESTS) on a thousand connections leave nothing behind."""
    batch = (
        b"GET /one HTTP/1.1\r\nHost: oak\r\n\r\n" * 100
        + b"POST / HTTP/1.1\r\nHost: oak\r\nContent-Length: 9\r\n\r\nsome body" * 100
    )
    with talk.Server(PROGRAM, "requests=1000000") as server:

        def requests(n):
            for _ in range(n):
                if len(_statuses(server.ask(batch, timeout=30))) != 200:
                    return False
            return True

        ok = requests(100)
        before = server.rss()
        ok = ok and requests(REQUESTS // 200 - 100)
        grown = server.rss() - before
        group.check("all are answered", ok)
        group.check("memory stays flat", grown < 1 << 20, f"{grown} bytes more")
