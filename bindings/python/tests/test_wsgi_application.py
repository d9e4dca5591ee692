"""What applications give to the WSGI server, and what they do wrong."""
import gc
import io
import sys
import unittest
import weakref

import weald
from wsgi_case import GET, LAST, Case, hello


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

    def test_an_environ_that_the_handler_keeps_is_collected_with_it(self):
        handlers = []

        def application(environ, start_response):
            handler = start_response.__self__
            handler.kept = environ
            handlers.append(weakref.ref(handler))
            environ["wsgi.input"].read()
            return hello(environ, start_response)

        self.serve(application)
        for last in LAST, b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc":
            self.ask(last)
        weald.sleep(0.01)
        gc.collect()
        self.assertEqual([handler() for handler in handlers], [None, None])

    def test_the_connection_is_found_by_the_body(self):
        seen = []

        def application(environ, start_response):
            data = environ["wsgi.input"]
            sock = data.rfile.raw._sock
            seen.append((data.rfile.fileno() == sock.fileno(), sock.getpeername()[0], data.chunked_input, data.content_length))
            seen.append(data.read())
            return hello(environ, start_response)

        self.serve(application)
        self.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + LAST)
        self.assertEqual(seen, [(True, "127.0.0.1", False, 3), b"abc", (True, "127.0.0.1", False, 0), b""])
        seen.clear()
        self.ask(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n")
        self.assertEqual(seen, [(True, "127.0.0.1", True, None), b"de"])

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


if __name__ == "__main__":
    unittest.main()
