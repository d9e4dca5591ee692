"""WSGIHandler: what a subclass may override, what applications do wrong, who leaves too early, and that nothing is left.

Server and clients are greenlets of this process.
"""
import gc
import io
import os
import resource
import sys
import unittest
import weakref
from pathlib import Path

import support

import weald
from weald import pywsgi, socket
from weald.pywsgi import WSGIHandler, WSGIServer

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "http"))
import corpus  # noqa: E402
from vectors import VECTORS  # noqa: E402

GET = b"GET / HTTP/1.1\r\nHost: oak\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n"


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


class Log(list):
    def write(self, line):
        self.append(line)


class Case(unittest.TestCase):
    def serve(self, application=hello, handler_class=None, server_class=WSGIServer, **more):
        self.log, self.errors = Log(), Log()
        self.server = server_class(
            ("127.0.0.1", 0), application, log=self.log, error_log=self.errors, handler_class=handler_class, **more
        )
        self.server.start()
        self.addCleanup(self.server.stop)
        hub = weald.get_hub()
        self.reports = []
        before = hub.__dict__.get("handle_error")
        hub.handle_error = lambda context, kind, value, tb: self.reports.append(kind)
        self.addCleanup(lambda: hub.__dict__.pop("handle_error") if before is None else None)

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.server.server_port), timeout=20)
        self.addCleanup(sock.close)
        return sock

    @staticmethod
    def rest(sock):
        parts = []
        while True:
            try:
                part = sock.recv(65536)
            except ConnectionResetError:
                part = b""
            if not part:
                return b"".join(parts)
            parts.append(part)

    def ask(self, request=LAST):
        sock = self.connect()
        sock.sendall(request)
        answer = self.rest(sock)
        sock.close()
        weald.sleep(0.002)  # the handler has still to write its line
        return answer

    def ask_once(self, request):
        """The same of a request that may be followed by others."""
        sock = self.connect()
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answer = self.rest(sock)
        weald.sleep(0.002)
        return answer


class Overriding(Case):
    POINTS = (
        "handle", "handle_one_request", "read_requestline", "read_request", "get_environ", "handle_one_response",
        "run_application", "start_response", "process_result", "write", "finalize_headers", "log_request",
        "format_request",
    )  # fmt: skip

    def all_points(self):
        calls = []

        def tells(name):
            def call(handler, *args, **kwargs):
                calls.append(name)
                return getattr(WSGIHandler, name)(handler, *args, **kwargs)

            return call

        return calls, type("Tells", (WSGIHandler,), {name: tells(name) for name in self.POINTS})

    def test_all_are_called_in_their_order(self):
        calls, kind = self.all_points()
        self.serve(handler_class=kind)
        self.assertTrue(self.ask().endswith(b"\r\n\r\nhello"))
        self.assertEqual(
            calls,
            ["handle", "handle_one_request", "read_requestline", "read_request", "get_environ", "handle_one_response",
             "run_application", "start_response", "process_result", "write", "finalize_headers", "log_request",
             "format_request"],
        )  # fmt: skip

    def test_each_alone(self):
        for name in self.POINTS:
            with self.subTest(name):
                calls = []

                def call(handler, *args, name=name, calls=calls, **kwargs):
                    calls.append(name)
                    return getattr(WSGIHandler, name)(handler, *args, **kwargs)

                self.serve(handler_class=type("Tells", (WSGIHandler,), {name: call}))
                answer = self.ask(GET + LAST)
                self.assertEqual(answer.count(b"\r\n\r\nhello"), 2, answer)
                self.assertEqual(calls, [name] if name == "handle" else [name] * (len(calls)))
                self.assertGreaterEqual(len(calls), 1)
                self.assertEqual(len(self.log), 2)

    def test_a_method_that_is_set_on_the_class_later_or_on_the_handler_counts(self):
        class Kind(WSGIHandler):
            pass

        self.serve(handler_class=Kind)
        self.ask()
        Kind.format_request = lambda self: "of the class"
        self.ask()

        def init(self, *args):
            WSGIHandler.__init__(self, *args)
            self.log_request = lambda: self.server.log.write("of the handler")

        Kind.__init__ = init
        self.ask()
        self.assertIn('"GET / HTTP/1.1" 200', self.log[0])
        self.assertEqual(self.log[1:], ["of the class\n", "of the handler"])

    def test_environ_and_server(self):
        class Handler(WSGIHandler):
            def get_environ(self):
                env = super().get_environ()
                env["own"] = self.path, self.command, self.request_version, self.headers.get("host"), self.requestline
                return env

        class Server(WSGIServer):
            base_env = {**WSGIServer.base_env, "of.base": "1"}

            def get_environ(self):
                return {**super().get_environ(), "of.server": "2"}

        seen = {}

        def application(environ, start_response):
            seen.update(environ)
            return hello(environ, start_response)

        self.serve(application, Handler, Server, environ={"given": "3"})
        self.ask(b"GET /a%20b?c=%20d HTTP/1.1\r\nHost: oak\r\nConnection: close\r\nX-A: 1\r\nx-a: 2\r\nCookie: a\r\nCookie: b\r\n\r\n")
        self.assertEqual(seen["own"], ("/a%20b?c=%20d", "GET", "HTTP/1.1", "oak", "GET /a%20b?c=%20d HTTP/1.1"))
        wanted = {
            "of.base": "1", "of.server": "2", "given": "3", "REQUEST_METHOD": "GET", "PATH_INFO": "/a b", "SCRIPT_NAME": "",
            "QUERY_STRING": "c=%20d", "HTTP_X_A": "1,2", "HTTP_COOKIE": "a; b", "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input_terminated": True, "wsgi.url_scheme": "http", "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_PORT": str(self.server.server_port),
        }  # fmt: skip
        self.assertEqual({key: seen.get(key) for key in wanted}, wanted)
        self.assertTrue(seen["REMOTE_PORT"].isdigit())
        self.assertNotIn("CONTENT_LENGTH", seen)

    def test_an_environ_class(self):
        class Server(WSGIServer):
            environ_class = pywsgi.SecureEnviron

        kinds = []
        self.serve(lambda env, start: (kinds.append(type(env)), hello(env, start))[1], server_class=Server)
        self.ask()
        self.assertEqual(kinds, [pywsgi.SecureEnviron])

    def test_a_request_line_of_its_own(self):
        class Policy(WSGIHandler):
            def read_requestline(self):
                first = self.rfile.read(7)
                if first == b"<policy":
                    self.socket.sendall(b"POLICY")
                    return None
                return first + self.rfile.readline()

        self.serve(handler_class=Policy)
        self.assertEqual(self.ask(b"<policy/>\0"), b"POLICY")
        self.assertEqual(self.ask(GET + LAST).count(b"hello"), 2)

    def test_what_read_request_changes_is_what_counts(self):
        class Mounted(WSGIHandler):
            def read_request(self, line):
                ok = super().read_request(line)
                self.path = "/mounted" + self.path
                del self.headers["x-secret"]
                return ok

        seen = {}
        self.serve(lambda env, start: (seen.update(env), hello(env, start))[1], Mounted)
        self.ask(LAST.replace(b"Host", b"X-Secret: 1\r\nHost"))
        self.assertEqual(seen["PATH_INFO"], "/mounted/")
        self.assertNotIn("HTTP_X_SECRET", seen)
        self.assertEqual(seen["HTTP_HOST"], "oak")

    def test_a_subclass_may_read_requests_all_by_itself(self):
        class Own(WSGIHandler):
            def read_request(self, line):
                self.command, self.path, self.request_version = line.split()
                self.headers = self.MessageClass(self.rfile, 0)
                return True

        self.serve(handler_class=Own)
        self.assertEqual(self.ask(GET + LAST).count(b"\r\n\r\nhello"), 2)

    def test_a_message_class(self):
        import http.client

        class Own(WSGIHandler):
            @staticmethod
            def MessageClass(file, *_):
                return http.client.parse_headers(file)

        seen = {}
        self.serve(lambda env, start: (seen.update(env), hello(env, start))[1], Own)
        self.assertIn(b"200 OK", self.ask(LAST.replace(b"Host", b"X-A: b\r\nHost")))
        self.assertEqual((seen["HTTP_HOST"], seen["HTTP_X_A"]), ("oak", "b"))

    def test_headers_are_added_at_the_last_moment(self):
        class Stamped(WSGIHandler):
            def finalize_headers(self):
                super().finalize_headers()
                self.response_headers.append((b"X-Stamp", b"beech"))

        def stream(environ, start_response):
            start_response("200 OK", [])
            yield b"a"
            yield b"b"

        self.serve(stream, Stamped)
        answer = self.ask()
        self.assertIn(b"\r\nX-Stamp: beech\r\n", answer)
        self.assertEqual(answer.count(b"Date: "), 1)
        self.assertTrue(answer.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"), answer)

    def test_a_bad_header_of_a_subclass_is_a_500(self):
        class Bad(WSGIHandler):
            def finalize_headers(self):
                if self.code == 200:
                    self.response_headers.append((b"X-Evil", b"a\r\nSet-Cookie: b"))

        self.serve(handler_class=Bad)
        answer = self.ask()
        self.assertIn(b"500 Internal", answer)
        self.assertNotIn(b"Set-Cookie", answer)
        self.assertEqual(self.reports, [ValueError])

    def test_errors_are_told(self):
        told = []

        class Tells(WSGIHandler):
            def handle_error(self, kind, value, tb):
                told.append(kind)
                super().handle_error(kind, value, tb)

            def log_error(self, msg, *args):
                told.append(msg)

        def fail(environ, start_response):
            raise KeyError("expected")

        self.serve(fail, Tells)
        self.assertIn(b"500 Internal", self.ask())
        self.assertEqual(told, [KeyError])
        self.ask(b"NONSENSE\r\n\r\n")
        self.assertEqual(len(told), 2)
        self.assertIn(" 400 ", self.log[1])

    def test_the_handler_behind_start_response(self):
        seen = {}

        def application(environ, start_response):
            handler = start_response.__self__
            start_response("201 Created", [("A", "é")])
            seen.update(
                status=handler.status, code=handler.code, headers=handler.response_headers, path=handler.path,
                sent=handler.headers_sent, close=handler.close_connection, socket=handler.socket.fileno() > 0,
                address=handler.client_address[0], server=handler.server, length=handler.provided_content_length,
            )  # fmt: skip
            return [b"x"]

        self.serve(application)
        self.assertIn(b"\r\nA: \xe9\r\n", self.ask())
        self.assertEqual(
            seen,
            {"status": b"201 Created", "code": 201, "headers": [(b"A", b"\xe9")], "path": "/", "sent": False,
             "close": True, "socket": True, "address": "127.0.0.1", "server": self.server, "length": None},
        )  # fmt: skip

    def test_an_application_may_take_its_handler_apart(self):
        def application(environ, start_response):
            handler, path = start_response.__self__, environ["PATH_INFO"]
            if path == "/attributes":
                for name in "server", "environ", "application", "wsgi_input", "client_address", "path", "headers", "result":
                    delattr(handler, name)
                handler.server = server  # the log wants it
            if path == "/hang":
                handler._hang_up()
            if path == "/again":
                handler.handle()
            if path == "/next":
                handler._next()
            if path == "/odd":
                handler.path, handler.headers, handler.status, handler.response_headers = 5, 6, 7, 8
                handler._orig_status, handler.provided_content_length, handler.code = 9, 10, 11
            return hello(environ, start_response)

        self.serve(application)
        server = self.server
        for path in "attributes", "hang", "again", "next", "odd":
            for request in GET, GET + GET:
                self.ask_once(request.replace(b"/ ", f"/{path} ".encode(), 1))
        self.reports.clear()
        self.assertTrue(self.ask().endswith(b"hello"))

    def test_an_environ_class_that_moves_on(self):
        """Its __setitem__ reads the next request, whose bytes take the place of those being put."""

        class Moving(dict):
            def __setitem__(self, key, value):
                super().__setitem__(key, value)
                if key == "SERVER_PROTOCOL" and handlers and handlers[-1].moves:
                    handlers[-1].moves -= 1
                    handlers[-1]._next()

        handlers = []

        class Handler(WSGIHandler):
            def __init__(self, *args):
                super().__init__(*args)
                self.moves = 1
                handlers.append(self)

        class Server(WSGIServer):
            environ_class = Moving

        self.serve(handler_class=Handler, server_class=Server)
        self.ask_once(GET.replace(b"/ ", b"/" + b"a" * 3000 + b" ", 1) + GET)

    def test_a_connection_may_be_closed_by_its_handler(self):
        def application(environ, start_response):
            start_response.__self__.close_connection = True
            return hello(environ, start_response)

        self.serve(application)
        answer = self.ask(GET + GET)
        self.assertEqual(answer.count(b"hello"), 1)
        self.assertIn(b"Connection: close", answer)

    def test_a_handler_over_other_objects(self):
        class Fake:
            def __init__(self, data):
                self.data, self.sent, self.closed = data, b"", False

            def recv(self, n):
                part, self.data = self.data[: min(n, 5)], self.data[min(n, 5) :]
                return part

            def sendall(self, data):
                self.sent += data

            def close(self):
                self.closed = True

        self.serve()
        fake = Fake(GET + LAST)
        WSGIHandler(fake, ("far", 1), self.server).handle()
        self.assertEqual(fake.sent.count(b"\r\n\r\nhello"), 2)
        self.assertTrue(fake.closed)
        silent = Fake(b"")
        WSGIHandler(silent, "", self.server, rfile=io.BytesIO(LAST)).handle()
        self.assertEqual(silent.sent.count(b"hello"), 1)

        class Broken(Fake):
            def sendall(self, data):
                raise BrokenPipeError(32, "gone")

        WSGIHandler(Broken(LAST), "", self.server).handle()

        class Dies(Fake):
            def recv(self, n):
                raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            WSGIHandler(Dies(b""), "", self.server).handle()
        self.assertEqual(self.reports, [])


class Applications(Case):
    def test_kinds_of_results(self):
        class Sized:
            def __len__(self):
                return 2

            def __getitem__(self, i):
                return (b"si", b"zed")[i]

        for result, body, headers in (
            ([b"a", b"b"], b"ab", b"Content-Length: 2"),
            ((b"a", b"", bytearray(b"bc"), memoryview(b"d")), b"abcd", b"Content-Length: 4"),
            ([], b"", b"Content-Length: 0"),
            (Sized(), b"sized", b"Content-Length: 5"),
            (iter([b"x", b"yz"]), b"1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
            (iter([]), b"0\r\n\r\n", b"Transfer-Encoding: chunked"),
            ([b"x" * 100_000, b"y" * 100_000], b"x" * 100_000 + b"y" * 100_000, b"Content-Length: 200000"),
        ):
            with self.subTest(str(result)[:40]):
                def application(environ, start_response, result=result):
                    start_response("200 OK", [])
                    return result

                self.serve(application)
                head, _, got = self.ask().partition(b"\r\n\r\n")
                self.assertEqual(got, body)
                self.assertIn(headers, head)
                self.assertEqual(self.reports, [])

    def test_results_that_make_no_sense(self):
        for result in None, 5, [5], ["text"], b"bytes":
            with self.subTest(result):
                def application(environ, start_response, result=result):
                    start_response("200 OK", [])
                    return result

                self.serve(application)
                self.assertIn(b"500 Internal", self.ask())
                self.assertEqual(self.reports, [TypeError])

    def test_what_was_announced_is_what_is_sent(self):
        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "3")])
            return iter([b"abc", b"d"]) if environ["PATH_INFO"] == "/more" else [b"ab"]

        self.serve(application)
        more = self.ask(LAST.replace(b"/ ", b"/more ", 1))
        self.assertTrue(more.endswith(b"\r\n\r\nabc"), more)
        self.assertEqual(self.reports, [AssertionError])
        less = self.ask(GET + GET)
        self.assertEqual(less.count(b"200 OK"), less.count(b"ab"))
        self.assertLessEqual(less.count(b"200 OK"), 1)

    def test_methods_and_statuses_without_a_body(self):
        def application(environ, start_response):
            status = environ["PATH_INFO"][1:]
            start_response(status + " Fine", [("X-A", "b")] + ([("Content-Length", "5")] if status == "200" else []))
            return [b"hello"] if status == "200" else []

        self.serve(application)
        for path, method in ("200", "HEAD"), ("204", "GET"), ("304", "GET"), ("204", "HEAD"):
            request = f"{method} /{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
            answer = self.ask(request + b"GET /200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            heads = answer.split(b"\r\n\r\n")
            self.assertEqual(len(heads), 3, answer)
            self.assertTrue(heads[1].startswith(b"HTTP/1.1 200 Fine"), answer)
            self.assertEqual(heads[2], b"hello")
            self.assertNotIn(b"chunked", heads[0])
        self.assertEqual(self.reports, [])

    def test_http_10(self):
        def stream(environ, start_response):
            start_response("200 OK", [])
            return iter([b"ab", b"c"])

        self.serve(stream)
        answer = self.ask_once(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n")
        self.assertTrue(answer.endswith(b"\r\n\r\nabc"), answer)
        self.assertEqual(answer.count(b"200 OK"), 1)
        self.serve()
        answer = self.ask_once(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n")
        self.assertEqual(answer.count(b"hello"), 2)
        self.assertIn(b"Connection: keep-alive", answer)

    def test_write_and_errors_at_every_stage(self):
        def application(environ, start_response):
            path = environ["PATH_INFO"]
            if path == "/before":
                raise LookupError
            write = start_response("200 OK", [])
            if path == "/after":
                raise LookupError
            write(b"part")
            if path == "/middle":
                raise LookupError
            if path == "/again":
                try:
                    raise LookupError
                except LookupError:
                    start_response("500 Oh", [], sys.exc_info())
            return [b"rest"]

        self.serve(application)
        self.assertTrue(self.ask().endswith(b"\r\n\r\n4\r\npart\r\n4\r\nrest\r\n0\r\n\r\n"))
        for path, whole in ("before", True), ("after", True), ("middle", False), ("again", False):
            self.reports.clear()
            answer = self.ask(GET.replace(b"/ ", f"/{path} ".encode(), 1) + GET)
            self.assertEqual(self.reports, [LookupError], path)
            if whole:
                self.assertIn(b"500 Internal", answer)
                self.assertEqual(answer.count(b"HTTP/1.1 "), 1)
            else:
                self.assertTrue(answer.endswith(b"part\r\n"), answer)  # and is seen not to be whole

    def test_start_response_again(self):
        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "3"), ("X-Old", "1")])
            try:
                raise LookupError
            except LookupError:
                start_response("503 Busy", [("X-New", "1")], sys.exc_info())
            return [b"later"]

        self.serve(application)
        answer = self.ask()
        self.assertTrue(answer.startswith(b"HTTP/1.1 503 Busy\r\n") and answer.endswith(b"later"), answer)
        self.assertNotIn(b"X-Old", answer)

    def test_arguments_of_start_response(self):
        wrong = [
            ("200 OK\r\nX: y", [], ValueError), ("abc", [], ValueError), ("20", [], ValueError), ("100 Go on", [], ValueError),
            (200, [], UnicodeError), (b"200 OK", [], UnicodeError), ("200 \u1234", [], UnicodeError),
            ("200 OK", [("a\r\n", "b")], ValueError), ("200 OK", [("a", "b\nc")], ValueError),
            ("200 OK", [("a", "b\0c")], ValueError), ("200 OK", [("a b", "c")], ValueError),
            ("200 OK", [("a:", "c")], ValueError), ("200 OK", [("", "c")], ValueError),
            ("200 OK", [("a", b"c")], UnicodeError), ("200 OK", [("a", "\u1234")], UnicodeError),
            ("200 OK", [("a",)], TypeError), ("200 OK", 5, TypeError), ("200 OK", [5], TypeError),
            ("200 OK", [("Content-Length", "x")], ValueError), ("200 OK", [("Content-Length", "-1")], ValueError),
            ("200 OK", [("Content-Length", "1"), ("content-length", "2")], ValueError),
            ("304 Same", [("Content-Length", "7")], AssertionError),
        ]  # fmt: skip
        results = []

        def application(environ, start_response):
            for status, headers, error in wrong:
                try:
                    start_response(status, headers)
                    results.append((status, headers, None))
                except error:
                    pass
                except BaseException as other:
                    results.append((status, headers, other))
            for args, kwargs in ((), {}), (("200 OK",), {}), (("200 OK", [], None, 1), {}), ((), {"status": "200 OK"}):
                try:
                    start_response(*args, **kwargs)
                    results.append(args)
                except TypeError:
                    pass
            start_response(status="200 OK", headers=[["Content-Length", "2"]])
            return [b"ok"]

        self.serve(application)
        answer = self.ask()
        self.assertEqual(results, [])
        self.assertTrue(answer.endswith(b"\r\n\r\nok"), answer)

    def test_generators_are_closed(self):
        ended = []

        class Result:
            def __init__(self, parts):
                self.parts = iter(parts)

            def __iter__(self):
                return self

            def __next__(self):
                part = next(self.parts)
                if part is None:
                    raise LookupError
                return part

            def close(self):
                ended.append(True)

        def application(environ, start_response):
            start_response("200 OK", [])
            return Result([b"a", None] if environ["PATH_INFO"] == "/fail" else [b"a"])

        self.serve(application)
        self.ask()
        self.ask(LAST.replace(b"/ ", b"/fail ", 1))
        self.assertEqual(len(ended), 2)

    def test_a_file_wrapper(self):
        from wsgiref.util import FileWrapper

        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "100000")])
            return FileWrapper(io.BytesIO(b"f" * 100_000))

        self.serve(application, environ={"wsgi.file_wrapper": FileWrapper})
        self.assertTrue(self.ask().endswith(b"\r\n\r\n" + b"f" * 100_000))

    def test_the_body_by_every_method(self):
        body = b"first\nsecond line\nthird"
        results = []

        def application(environ, start_response):
            data = environ["wsgi.input"]
            how = environ["PATH_INFO"]
            if how == "/read":
                results.append(data.read(3) + data.read(0) + data.read(None) + data.read())
            elif how == "/lines":
                results.append(data.readlines() == body.splitlines(True) and body)
            elif how == "/each":
                results.append(b"".join(line for line in data))
            elif how == "/mixed":
                results.append(data.readline(3) + data.readline() + data.read(4) + data.readline(-1) + data.read(99) + data.read(1))
            elif how == "/huge":
                results.append(data.read(1 << 80) + data.readline(1 << 80))
            return hello(environ, start_response)

        self.serve(application)
        chunks = b"6\r\nfirst\n\r\n3;x=y\r\nsec\r\n%x\r\n%b\r\n0\r\nA: b\r\n\r\n" % (len(body) - 9, body[9:])
        for how in "read", "lines", "each", "mixed", "huge":
            for head, data in (b"Content-Length: %d" % len(body), body), (b"Transfer-Encoding: chunked", chunks):
                results.clear()
                request = b"POST /%b HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n%b" % (how.encode(), head, data)
                answer = self.ask(request + LAST)
                self.assertEqual(results, [body], (how, head))
                self.assertEqual(answer.count(b"hello"), 2)

    def test_a_body_that_is_cut_short_is_an_error(self):
        errors = []

        def application(environ, start_response):
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                errors.append(str(error))
                raise
            return hello(environ, start_response)

        self.serve(application)
        self.ask_once(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        self.ask_once(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
        self.assertEqual(
            errors, ["unexpected end of file while reading request at position 4",
                     "unexpected end of file while parsing chunked data"])  # fmt: skip

    def test_an_upgrade_by_hand(self):
        def application(environ, start_response):
            self.assertFalse(environ["wsgi.input_terminated"])
            write = start_response("101 Switching Protocols", [("Upgrade", "shout"), ("Connection", "Upgrade"), ("X-A", "b")])
            write(b"ready;")
            line = environ["wsgi.input"].readline()
            return [line.upper()]

        self.serve(application)
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n"
        answer = self.ask(request + b"hear me\n")
        head, _, rest = answer.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "), head)
        self.assertIn(b"Upgrade: shout", head)
        self.assertIn(b"X-A: b", head)
        self.assertEqual(rest, b"ready;HEAR ME\n")

    def test_who_answers_by_other_means_is_left_alone(self):
        def application(environ, start_response):
            raw = environ["wsgi.input"].raw._sock.dup()
            raw.sendall(b"by hand")
            raw.close()
            return []

        self.serve(application)
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
        self.assertEqual(self.ask(request), b"by hand")


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

        calls, by_steps = Overriding.all_points(Overriding())
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
