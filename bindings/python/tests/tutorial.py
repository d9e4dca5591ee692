#!/usr/bin/env python3
"""Runs programs of the gevent tutorial, and of slides about gevent, unchanged, on weald.

    tutorial.py FOLDER...       or WEALD_TUTORIAL=folder:folder

The programs are no part of this repository; tests/test_programs.py has our own of the same features. For each file
this knows what its text promises. One line a program; exit status 1 if any does something else.
"""
import base64
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import support

CHECKS = {}


def program(name):
    def add(function):
        CHECKS[name] = function
        return function

    return add


def expect(condition, *shown):
    if not condition:
        raise AssertionError(" ".join(map(str, shown)))


def lines(file, status=0, **kwargs):
    """What the program prints, with the time it took as well."""
    began = time.monotonic()
    done = support.run(file, **kwargs)
    expect(done.status == status, done)
    return done.out.splitlines(), time.monotonic() - began, done


def exactly(*expected):
    def check(file):
        out, _, done = lines(file)
        expect(out == list(expected), done)

    return check


CHECKS["01_yield.py"] = exactly(
    "Running in foo", "Explicit context to bar", "Explicit context switch to foo again",
    "Implicit context switch back to bar",
)  # fmt: skip


@program("02_select.py")
def _(file):
    out, seconds, done = lines(file)
    expect(len(out) == 5 and out[2].startswith("Hey lets do some stuff"), done)
    expect(out[0].endswith("at 0.0 seconds") and all(line.startswith("Ended Polling: at 2.") for line in out[3:]), done)


@program("03_sync_async.py")
def _(file):
    out, _, done = lines(file)
    split = out.index("Asynchronous:")
    expect(out[1:split] == [f"Task {number} done" for number in range(1, 10)], done)
    expect(sorted(out[split + 1 :]) == [f"Task {number} done" for number in range(10)], done)


@program("04_fetch.py")
def _(file):
    class Clock(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"datetime": "Sat, 21 Nov"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    # The site it asks is no more; a proxy answers in its place.
    server = HTTPServer(("127.0.0.1", 0), Clock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        out, _, done = lines(file, http_proxy=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
    split = out.index("Asynchronous:")
    wanted = [f"Process {number}: Sat, 21 Nov" for number in range(1, 10)]
    expect(out[1:split] == wanted and sorted(out[split + 1 :]) == wanted, done)


@program("05_determinism.py")
def _(file):
    out, _, done = lines(file)
    expect(len(out) == 2 and out[1] == "True", done)


@program("07_spawn.py")
def _(file):
    out, seconds, done = lines(file)
    expect(out == ["Hello", "I live!"] and 1.9 < seconds < 10, done)


@program("08_subclass.py")
def _(file):
    out, seconds, done = lines(file)
    expect(out == ["Hi there!"] and seconds > 2.9, done)


@program("09_state.py")
def _(file):
    out, _, done = lines(file)
    expect(out == ["True", "True", "You win!", "None", "True", "True", "True", "False", "You fail at failing."], done)
    expect("You fail at failing." in done.err, "no traceback", done)


@program("10_shutdown.py")
def _(file):
    server = support.Server(file, port=0)
    time.sleep(1.5)
    server.process.send_signal(signal.SIGQUIT)
    try:
        expect(server.process.wait(10) == 0, server.output())
    finally:
        server.stop()


@program("11_timeout_start.py")
def _(file):
    out, seconds, done = lines(file)
    # Both are ten seconds: whichever comes first, it ends.
    expect(out in (["Could not complete"], []) and seconds > 9.9, done)


@program("12_timeout_with.py")
def _(file):
    out, seconds, done = lines(file, status=1)
    expect("TooLong" in done.err and 4.9 < seconds < 10, done)


# A join with a Timeout that is its own returns when that fires, here as in gevent: of thread 1 nothing is said.
CHECKS["13_timeout_args.py"] = exactly("Thread 2 timed out", "Thread 3 timed out")


@program("14_monkey.py")
def _(file):
    out, _, done = lines(file)
    expect(out[0] == "<class 'socket.socket'>" and out[1] == "After monkey patch", done)
    expect(out[2] != out[0] and "built-in" in out[3] and "built-in" not in out[5], done)


@program("16_event.py")
def _(file):
    out, seconds, done = lines(file)
    expect(out[0].startswith("A: Hey") and out[1:6] == ["I'll wait for you"] * 5 and out[6] == "Ok, I'm done", done)
    expect(out[7:] == ["It's about time"] * 5 and seconds > 2.9, done)


CHECKS["17_async_result.py"] = exactly("Hello!")


@program("18_queue.py")
def _(file):
    out, _, done = lines(file)
    expect(out[:3] == ["Worker steve got task 1", "Worker john got task 2", "Worker nancy got task 3"], done)
    expect(out[-3:] == ["Quitting time!"] * 3 and len(out) == 27, done)


@program("19_queue_bounded.py")
def _(file):
    out, _, done = lines(file)
    tasks = [int(line.split()[-1]) for line in out if "got task" in line]
    expect(tasks == list(range(1, 20)) and out.count("Quitting time!") == 3, done)
    expect("Assigned all work in iteration 1" in out and "Assigned all work in iteration 2" in out, done)


CHECKS["20_group.py"] = exactly(*["bar"] * 3, *["foo"] * 3, *["fizz"] * 3)


@program("21_group_map.py")
def _(file):
    out, _, done = lines(file)
    expect(out[0] == "Size of group 3" and len({line for line in out[1:6:2]}) == 3, done)
    ordered, unordered = out.index("Ordered"), out.index("Unordered")
    expect(out[ordered + 1 : unordered] == [f"('task', {number})" for number in range(3)], done)
    expect(out[unordered + 1 :] == [f"('task', {number})" for number in (2, 1, 0)], done)


CHECKS["22_pool_map.py"] = exactly("Size of pool 2", "Size of pool 2", "Size of pool 1")
CHECKS["23_socket_pool.py"] = exactly()
CHECKS["24_semaphore.py"] = exactly(
    "Worker 0 acquired semaphore", "Worker 1 acquired semaphore", "Worker 0 released semaphore",
    "Worker 1 released semaphore", "Worker 3 acquired semaphore", "Worker 4 acquired semaphore",
    "Worker 3 released semaphore", "Worker 4 released semaphore", "Worker 5 acquired semaphore",
    "Worker 5 released semaphore",
)  # fmt: skip
CHECKS["25_local.py"] = exactly("1", "2", "x is not local to f2")


def served(file, port, cwd=None, packages=()):
    support.need(*packages)
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise unittest.SkipTest(f"port {port}, which the program wants, is taken")
    server = support.Server(file, port=port, cwd=cwd)
    try:
        server.wait()
    except BaseException:
        server.stop()
        raise
    return server


@program("26_request_local.py")
def _(file):
    server = served(file, 8000, packages=["werkzeug"])
    try:
        for _ in range(3):
            status, body = support.get(8000)
            expect(status == 200 and body.startswith(b"Hello ") and b"127.0.0.1" in body, status, body)
    finally:
        server.stop()


@program("27_subprocess.py")
def _(file):
    out, _, done = lines(file)
    expect(out[:-1] == ["cron"] * len(out[:-1]) and 3 <= len(out[:-1]) <= 7 and "Linux" in out[-1], done)


@program("29_multiprocessing_pipe.py")
def _(file):
    out, _, done = lines(file)
    expect(out == [f"hi in {number}" for number in range(10)], done)


@program("31_actors.py")
def _(file):
    # It plays for ever.
    server = support.Server(file, port=0)
    time.sleep(2)
    out = server.output().splitlines()
    server.stop()
    expect(len(out) > 100 and out[:4] == ["start", "ping", "pong", "ping"], out[:10])


@program("32_zeromq.py")
def _(file):
    support.need("pyzmq=zmq")
    out, _, done = lines(file)
    wanted = [f"Switched to {who} for {number}" for number in range(1, 10) for who in ("Server", "Client")]
    expect(sorted(out) == sorted(wanted) and out[0] == "Switched to Server for 1", done)


@program("33_stream_server.py")
def _(file):
    server = served(file, 5000)
    try:
        expect(support.http(5000, b"") == b"Hello from a telnet!\n0\n1\n2\n3\n4\n")
    finally:
        server.stop()


@program("34_wsgi_hello.py")
def _(file):
    server = served(file, 8000)
    try:
        expect(support.get(8000) == (200, b"<p>Hello World</p>"))
    finally:
        server.stop()


@program("35_wsgi_streaming.py")
def _(file):
    server = served(file, 8000)
    try:
        answer = support.http(8000, "GET / HTTP/1.1\nHost: a\nConnection: close\n\n")
        expect(b"chunked" in answer and answer.endswith(b"8\r\n<p>Hello\r\n9\r\nWorld</p>\r\n0\r\n\r\n"), answer)
    finally:
        server.stop()


@program("36_long_poll.py")
def _(file):
    server = served(file, 8000)
    try:
        with socket.create_connection(("127.0.0.1", 8000), timeout=10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            data = b""
            while data.count(b'"Hello World"\n') < 3:
                part = sock.recv(4096)
                expect(part, data)
                data += part
    finally:
        server.stop()


@program("37_websocket.py")
def _(file):
    server = served(file, 10000, packages=["gevent-websocket=geventwebsocket"])
    try:
        with socket.create_connection(("127.0.0.1", 10000), timeout=10) as sock:
            key = base64.b64encode(os.urandom(16)).decode()
            sock.sendall(
                f"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            stream = sock.makefile("rb")
            expect(b"101" in stream.readline())
            while stream.readline().strip():
                pass
            for x in range(3):
                first, size = stream.read(2)
                message = json.loads(stream.read(size))
                expect(first == 0x81 and message["x"] == x and 1 <= message["y"] <= 5, message)
    finally:
        server.stop()


@program("38_chat.py")
def _(file):
    support.need("flask")
    folder = Path(tempfile.mkdtemp(prefix="weald-chat-"))
    try:
        # The slides leave its pages to the reader.
        shutil.copy(file, folder)
        (folder / "templates").mkdir()
        (folder / "templates" / "choose.html").write_text("choose")
        (folder / "templates" / "main.html").write_text("{{ uid }}: {{ rooms|join(',') }}")
        (folder / "templates" / "room.html").write_text("{{ room }} {{ uid }} {{ messages|join(';') }}")
        server = served(folder / file.name, 5000, cwd=folder)
        try:
            expect(support.get(5000) == (200, b"choose"))
            expect(support.get(5000, "/ann") == (200, b"ann: topic1,topic2"))
            expect(support.get(5000, "/topic1/ann")[1] == b"topic1 ann ")
            expect(support.get(5000, "/topic1/bob")[1] == b"topic1 bob ")
            heard = []
            poll = "POST /poll/ann HTTP/1.1\nHost: a\nConnection: close\nContent-Length: 0\n\n"
            waiter = threading.Thread(target=lambda: heard.append(support.http(5000, poll)))
            waiter.start()
            time.sleep(0.5)
            expect(not heard, "poll does not wait")
            said = "message=hello"
            form = "Content-Type: application/x-www-form-urlencoded"
            support.http(5000, f"POST /put/topic1/bob HTTP/1.1\nHost: a\nConnection: close\n{form}\nContent-Length: {len(said)}\n\n{said}")
            waiter.join(10)
            expect(heard and heard[0].endswith(b'"bob:hello"'), heard)
            expect(support.get(5000, "/topic1/ann")[1] == b"topic1 ann bob:hello")
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


# ---- the slides ----


@program("core_timer.py")
def _(file):
    server = support.Server(file, port=0)
    time.sleep(4.5)
    times = [float(line) for line in server.output().split()]
    server.stop()
    gaps = [b - a for a, b in zip(times, times[1:])]
    expect(len(times) >= 3 and all(0.8 < gap < 1.3 for gap in gaps), times)


def echoes(concurrent):
    def check(file):
        server = served(file, 4000)
        try:
            clients = [socket.create_connection(("127.0.0.1", 4000), timeout=10) for _ in range(20 if concurrent else 1)]
            # The last answers first: nobody waits for another.
            for number, client in reversed(list(enumerate(clients))):
                client.sendall(b"%d" % number)
                expect(client.recv(100) == b"%d" % number)
            for client in clients:
                client.close()
        finally:
            server.stop()

    return check


CHECKS["echo_blocking.py"] = echoes(False)
CHECKS["echo_monkey_threads.py"] = CHECKS["echo_select.py"] = CHECKS["echo_stream_server.py"] = echoes(True)
CHECKS["greenlet_switch.py"] = exactly("f1 1", "f2 1", "f1 2", "f2 2", "f1 3")


@program("hub_by_hand.py")
def _(file):
    # At its end it switches to a hub that has nothing more to do, which returns.
    out, _, done = lines(file)
    times = [float(line) for line in out]
    expect(len(times) == 4 and all(0.9 < b - a < 1.5 for a, b in zip(times, times[1:])), done)


def main():
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    folders = words or os.environ.get("WEALD_TUTORIAL", "").split(":")
    if not folders[0]:
        sys.exit(__doc__)
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    only = os.environ.get("ONLY", "")
    for folder in folders:
        for file in sorted(Path(folder).resolve().glob("*.py")):
            if only not in file.name:
                continue
            outcome, text = "passed", ""
            check = CHECKS.get(file.name)
            if check is None:
                outcome, text = "failed", "nothing is known of it"
            else:
                try:
                    check(file)
                except unittest.SkipTest as reason:
                    outcome, text = "skipped", str(reason)
                except Exception as problem:
                    outcome, text = "failed", f"{type(problem).__name__}: {problem}"
            counts[outcome] += 1
            print(f"{file.name:28} {outcome} {text}", flush=True)
    print("\n" + ", ".join(f"{number} {name}" for name, number in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
