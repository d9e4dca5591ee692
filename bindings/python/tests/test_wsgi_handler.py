"""WSGIHandler: what a subclass may override, and what it is then told and asked."""
import http.client
import io
import unittest

from wsgi_case import GET, LAST, POINTS, Case, hello, overridden

from weald import pywsgi
from weald.pywsgi import WSGIHandler, WSGIServer


class Overriding(Case):
    def test_all_are_called_in_their_order(self):
        calls, kind = overridden()
        self.serve(handler_class=kind)
        self.assertTrue(self.ask().endswith(b"\r\n\r\nhello"))
        self.assertEqual(
            calls,
            ["handle", "handle_one_request", "read_requestline", "read_request", "get_environ", "handle_one_response",
             "run_application", "start_response", "process_result", "write", "finalize_headers", "log_request",
             "format_request"],
        )  # fmt: skip

    def test_each_alone(self):
        for name in POINTS:
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
        class Own(WSGIHandler):
            @staticmethod
            def MessageClass(file, *_):
                return http.client.parse_headers(file)

        seen = {}
        self.serve(lambda env, start: (seen.update(env), hello(env, start))[1], Own)
        self.assertIn(b"200 OK", self.ask(LAST.replace(b"Host", b"X-A: b\r\nHost")))
        self.assertEqual((seen["HTTP_HOST"], seen["HTTP_X_A"]), ("oak", "b"))

    def test_headers_are_a_message(self):
        seen = []

        class Logged(WSGIHandler):
            def log_request(self):
                h = self.headers
                seen.extend([isinstance(h, http.client.HTTPMessage), sorted(h.items()), h["x-a"], h.get_all("X-A"), "x-b" in h,
                             h.getheader("x-b", 1), h.typeheader, h.get_content_type(), list(h.headers)[0]])  # fmt: skip

        self.serve(handler_class=Logged)
        self.ask(LAST.replace(b"Host", b"X-A: b\r\nContent-Type: text/html; charset=utf-8\r\nHost"))
        self.assertEqual(seen[1:], [
            [("Connection", "close"), ("Content-Type", "text/html; charset=utf-8"), ("Host", "oak"), ("X-A", "b")], "b", ["b"],
            False, 1, "text/html; charset=utf-8", "text/html", "X-A: b\r\n",
        ])  # fmt: skip
        self.assertTrue(seen[0])

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


if __name__ == "__main__":
    unittest.main()
