"""Connections of the WSGI server: requests by the byte, who leaves too early, that nothing is left, and TLS."""
import gc
import os
import resource
import sys
import unittest
import weakref
from pathlib import Path

import support
from wsgi_case import GET, LAST, Case, hello, overridden

import weald
from weald import socket
from weald.pywsgi import WSGIHandler, WSGIServer

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "http"))
import corpus  # noqa: E402
from vectors import VECTORS  # noqa: E402


class Requests(Case):
    def test_pipelined_requests_are_answered_in_order(self):
        def application(environ, start_response):
            number = environ["PATH_INFO"][1:]
            if number == "3":
                weald.sleep(0.01)
            body = environ["wsgi.input"].read(2)
            start_response("200 OK", [])
            return [f"<{number}>".encode() + body]

        self.serve(application)
        requests = b"".join(
            b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" % n for n in range(50)
        ) + LAST.replace(b"/ ", b"/end ", 1)
        answer = self.ask(requests)
        import re

        self.assertEqual(re.findall(rb"<(\w+)>", answer), [b"%d" % n for n in range(50)] + [b"end"])
        self.assertEqual(len(self.log), 51)

    def test_byte_by_byte(self):
        self.serve(lambda env, start: (start("200 OK", []), [env["wsgi.input"].read()])[1])
        request = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        sock = self.connect()
        for byte in request:
            sock.sendall(bytes([byte]))
            weald.sleep(0)
        self.assertTrue(self.rest(sock).endswith(b"\r\n\r\nabc"))

    def test_collected_requests_that_are_none(self):
        folder, reason = corpus.fetch(Path(__file__).resolve().parents[3] / "target" / "http")
        if folder is None:
            self.skipTest(reason)
        seen = []

        def application(environ, start_response):
            environ["wsgi.input"].read()
            seen.append(environ["PATH_INFO"])
            return hello(environ, start_response)

        # What is folded, a target in UTF-8, and HTTP/1.1 without Host gevent takes as well; a header with an underscore
        # is left out; "-bl" is a method; and what proxies may say is gunicorn's to decide.
        allowed = {"040", "obs_fold_01", "chunked_07", "rfc9112_target_non_ascii_02", "003c", "019"}
        for kind in (WSGIHandler, type("ByHand", (WSGIHandler,), {"process_result": lambda self: WSGIHandler.process_result(self)})):
            self.serve(application, kind)
            for path in sorted((folder / "invalid").glob("*.http")):
                if corpus.refused_by_a_limit(path) or path.stem in allowed:
                    continue
                with self.subTest(path.stem, kind=kind.__name__):
                    statuses = [part[:3] for part in self.ask_once(corpus.read(path)).split(b"HTTP/1.1 ")[1:]]
                    self.assertNotIn(b"200", statuses)

    def test_nothing_is_smuggled(self):
        seen = []

        def application(environ, start_response):
            seen.append(environ["PATH_INFO"])
            return hello(environ, start_response)

        self.serve(application)
        for name, request in VECTORS.items():
            if name == "an underscore for a hyphen":
                continue  # an honest request
            with self.subTest(name):
                seen.clear()
                self.ask_once(request)
                self.assertNotIn("/smuggled", seen)

    def test_no_header_becomes_a_key_of_another_kind(self):
        """Whatever was seen as a method, or as another header, before."""
        seen = {}
        self.serve(lambda env, start: (seen.update(env), hello(env, start))[1])
        names = [f"wsgi.{n}" for n in range(2000)]
        for first, second in ("method", "header"), ("header", "method"):
            requests = []
            for name in names:
                header = f"GET / HTTP/1.1\r\nHost: a\r\n{name}: x\r\n\r\n"
                method = f"{name} / HTTP/1.1\r\nHost: a\r\n\r\n"
                requests += (method, header) if first == "method" else (header, method)
            self.ask("".join(requests).encode() + LAST)
        self.assertEqual([key for key in seen if key in names], [])
        self.assertEqual(seen["HTTP_WSGI.0"], "x")

    def test_the_line_of_the_log(self):
        self.serve()
        self.ask(LAST.replace(b"/ ", b"/a?b ", 1))
        self.assertRegex(
            self.log[0], r'^127\.0\.0\.1 - - \[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] "GET /a\?b HTTP/1\.1" 200 1\d\d 0\.\d{6}\n$'
        )

    def test_limits_of_time(self):
        class Hasty(WSGIServer):
            head_timeout = 0.02
            idle_timeout = 0.02
            body_timeout = None

        self.serve(server_class=Hasty)
        sock = self.connect()
        self.assertEqual(self.rest(sock), b"")
        sock = self.connect()
        sock.sendall(b"GET / HT")
        self.assertIn(b" 408 ", self.rest(sock))


class Leaving(Case):
    def test_a_client_that_leaves_in_the_middle_of_an_answer(self):
        ended = []

        def application(environ, start_response):
            start_response("200 OK", [])
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                ended.append(True)

        self.serve(application)
        sock = self.connect()
        sock.sendall(GET)
        sock.recv(1000)
        sock.close()
        for _ in range(500):
            if self.log:
                break
            weald.sleep(0.01)
        self.assertEqual(ended, [True])
        self.assertEqual(self.reports, [])

    def test_a_handler_is_killed(self):
        handlers, went = [], []

        def application(environ, start_response):
            handlers.append(weald.getcurrent())
            path = environ["PATH_INFO"]
            if path == "/begun":
                start_response("200 OK", [])(b"begun")
            if path == "/body":
                environ["wsgi.input"].read()
            try:
                if path == "/write":
                    write = start_response("200 OK", [])
                    while True:
                        write(b"x" * 100_000)
                weald.sleep(60)
            finally:
                went.append(path)
            return []

        self.serve(application)
        for path in "/wait", "/begun", "/write", "/body":
            with self.subTest(path):
                handlers.clear()
                sock = self.connect()
                sock.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n".encode())
                for _ in range(500):
                    weald.sleep(0.01)
                    if handlers:
                        break
                weald.sleep(0.02)
                handlers[0].kill(timeout=20)
                self.assertTrue(handlers[0].dead)
                answer = self.rest(sock)
                self.assertNotIn(b"\r\n0\r\n\r\n", answer)  # nothing that looks whole
        self.assertEqual(went, ["/wait", "/begun", "/write"])
        self.assertEqual(self.reports, [])

    def test_a_timeout_in_a_write_and_another_write(self):
        """A Timeout that passes while a piece goes leaves the answer such that it can go on."""
        results = []

        def application(environ, start_response):
            write = start_response("200 OK", [("Content-Length", str(40_000_000))])
            sent = 0
            try:
                with weald.Timeout(0.05):
                    write(b"x" * 40_000_000)
            except weald.Timeout:
                results.append("late")
            return []

        self.serve(application)
        sock = self.connect()
        sock.sendall(GET)
        weald.sleep(0.2)
        answer = self.rest(sock)
        self.assertEqual(results, ["late"])
        self.assertLess(len(answer), 40_000_000)  # and it ends, since it is not whole

    def test_the_socket_is_closed_by_another_greenlet(self):
        handlers = []

        def application(environ, start_response):
            handlers.append(start_response.__self__)
            return hello(environ, start_response)

        self.serve(application)
        sock = self.connect()
        sock.sendall(GET)
        sock.recv(1000)
        handlers[0].socket.close()  # while it waits for a request
        self.assertEqual(self.rest(sock), b"")
        self.assertEqual(self.reports, [])

    def test_a_body_that_is_kept_is_empty_when_the_request_is_over(self):
        kept = []

        def application(environ, start_response):
            kept.append(environ["wsgi.input"])
            return hello(environ, start_response)

        self.serve(application)
        self.ask_once(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
        self.assertEqual(kept[0].read(), b"")
        self.assertEqual(kept[0].readline(), b"")


class Leaks(Case):
    def test_nothing_is_left_of_many_requests(self):
        marks, left = [], []

        class Mark:
            pass

        def application(environ, start_response):
            path = environ["PATH_INFO"]
            if path == "/mark":
                mark = environ["mark"] = Mark()
                marks.append(weakref.ref(mark))
            if path == "/fail":
                raise LookupError
            if path == "/stream":
                start_response("200 OK", [("X-A", "b")])
                return (b"%d" % n for n in range(3))
            environ["wsgi.input"].read()
            return hello(environ, start_response)

        calls, by_steps = overridden()
        self.serve(application)
        steps = WSGIServer(("127.0.0.1", 0), application, log=None, error_log=None, handler_class=by_steps)
        steps.start()
        self.addCleanup(steps.stop)
        ports = self.server.server_port, steps.server_port
        kinds = [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /mark HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nX-Some: thing\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        ]  # fmt: skip

        def many(rounds):
            for _ in range(rounds):
                for port in ports:
                    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
                    sock.sendall(b"".join(kinds) * 8 + b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n")
                    self.rest(sock)
                    sock.close()
                    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
                    sock.sendall(b"nonsense\r\n\r\n")
                    self.rest(sock)
                    sock.close()
            self.log.clear()
            self.errors.clear()
            self.reports.clear()
            calls.clear()
            weald.sleep(0.01)
            gc.collect()
            left.extend(mark() for mark in marks if mark() is not None)
            marks.clear()
            return len(gc.get_objects()), sys.getrefcount(application), sys.gettotalrefcount() if hasattr(sys, "gettotalrefcount") else 0

        many(20)
        gc.disable()
        self.addCleanup(gc.enable)
        before, memory = many(10), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        after = many(110)  # more than ten thousand requests
        gc.enable()
        self.assertLess(abs(after[0] - before[0]), 50)
        self.assertEqual(after[1:], before[1:])
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory, 4096)
        self.assertEqual(left, [])

    def test_no_greenlet_and_no_handler_is_left(self):
        handlers = weakref.WeakSet()
        greenlets = weakref.WeakSet()

        class Kept(WSGIHandler):
            def __init__(self, *args):
                super().__init__(*args)
                handlers.add(self)
                greenlets.add(weald.getcurrent())

        self.serve(handler_class=Kept)
        gc.disable()
        self.addCleanup(gc.enable)
        for _ in range(50):
            self.ask(GET + LAST)
        for _ in range(100):
            if not handlers and not greenlets:
                break
            weald.sleep(0.01)
        self.assertEqual((len(handlers), len(greenlets)), (0, 0))  # without the collector's help


class Secure(Case):
    @classmethod
    def setUpClass(cls):
        cls.cert, cls.key = support.certificate(cls)

    def ask_secure(self, request):
        from weald import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert)
        with context.wrap_socket(self.connect(), server_hostname="localhost") as sock:
            sock.sendall(request)
            return self.rest(sock)

    def test_by_the_interpreter_and_by_the_library(self):
        class Without(WSGIHandler):
            uses_socket = False

        def application(environ, start_response):
            start_response("200 OK", [])
            return [environ["wsgi.url_scheme"].encode(), environ["wsgi.input"].read(), b"x" * 300_000]

        for kind in WSGIHandler, Without:
            with self.subTest(kind.__name__):
                self.serve(application, kind, certfile=self.cert, keyfile=self.key)
                request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + LAST
                answer = self.ask_secure(request)
                self.assertEqual(answer.count(b"x" * 300_000), 2)
                self.assertIn(b"\r\n\r\nhttpsabcx", answer)
                self.connect().sendall(b"no TLS at all\r\n\r\n")
                weald.sleep(0.02)

    def test_a_timeout_in_the_body_over_tls(self):
        late = []

        def application(environ, start_response):
            try:
                with weald.Timeout(0.05):
                    environ["wsgi.input"].read()
            except weald.Timeout:
                late.append(True)
            start_response("200 OK", [("Connection", "close")])
            return [b"late"]

        self.serve(application, certfile=self.cert, keyfile=self.key)
        answer = self.ask_secure(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        self.assertEqual(late, [True])
        self.assertTrue(answer.endswith(b"late"), answer)

    def test_websocket_over_tls(self):
        import subprocess

        from weald.websocket import WebSocketServer

        def echo(environ, start_response):
            for message in environ["wsgi.websocket"]:
                environ["wsgi.websocket"].send(message)
            return []

        self.serve(echo, server_class=WebSocketServer, certfile=self.cert, keyfile=self.key)
        program = f"""
import weald.websocket
socket = weald.websocket.connect("wss://localhost:{self.server.server_port}/", timeout=20)
socket.send("bark")
print(socket.receive(timeout=20))
socket.close(timeout=20)
"""
        job = weald.spawn(lambda: weald.get_hub().threadpool.apply(
            lambda: subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50,
                                   env={**os.environ, "SSL_CERT_FILE": self.cert})))  # fmt: skip
        done = job.get(timeout=60)
        self.assertEqual(done.stdout.strip(), "bark", done.stderr)


if __name__ == "__main__":
    unittest.main()
