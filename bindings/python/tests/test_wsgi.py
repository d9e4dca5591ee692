"""The WSGI server as a client sees it: framing, what is refused, what is kept from the application, how it is written."""
import socket
import ssl
import time
import unittest

import support

PROGRAM = """
import sys
import gevent
from gevent.pywsgi import WSGIServer

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return [body]
    if path == "/environ":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [repr(sorted((k, v) for k, v in environ.items() if isinstance(v, str))).encode()]
    if path == "/stream":
        start_response("200 OK", [])
        return (b"part %d;" % n for n in range(3))
    if path == "/split":
        start_response("200 OK", [("X-Evil", "a" + chr(13) + chr(10) + "Set-Cookie: b")])
        return [b"never"]
    if path == "/raise":
        raise RuntimeError("expected")
    if path == "/unread":
        start_response("200 OK", [("Content-Length", "4")])
        return [b"skip"]
    if path == "/big":
        start_response("200 OK", [])
        return [b"x" * 3_000_000]
    if path == "/nothing":
        start_response("204 No Content", [])
        return []
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]

arguments = {}
if len(sys.argv) > 2:
    arguments = {"certfile": sys.argv[2], "keyfile": sys.argv[3]}
WSGIServer(("127.0.0.1", int(sys.argv[1])), application, log=None, **arguments).serve_forever()
"""


class WSGI(support.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.port = support.free_port()
        cls.server = support.Server(PROGRAM, cls.port, port=cls.port)
        cls.addClassCleanup(cls.server.stop)
        cls.server.wait()

    def talk(self, request):
        return support.http(self.port, request)

    def post(self, path, headers, body=b"", close=True):
        head = f"POST {path} HTTP/1.1\nHost: a\n{headers}" + ("Connection: close\n" if close else "") + "\n"
        return self.talk(head.replace("\n", "\r\n").encode() + body)

    def refused(self, answer, status=b"400"):
        self.assertEqual(answer.split(b" ")[1:2], [status], answer)

    # ---- what works ----

    def test_a_simple_answer(self):
        self.assertEqual(support.get(self.port), (200, b"hello"))

    def test_connections_are_kept(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            for _ in range(3):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                answer = sock.recv(65536)
                self.assertTrue(answer.endswith(b"\r\n\r\nhello"), answer)

    def test_a_small_answer_is_one_write_and_is_not_delayed(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            began = time.monotonic()
            for _ in range(50):
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                # All of it in one segment.
                self.assertTrue(sock.recv(65536).endswith(b"hello"))
            # Nagle's algorithm against a delayed acknowledgement would cost 40 ms each time.
            self.assertLess(time.monotonic() - began, 1.5)

    def test_requests_may_come_together(self):
        answer = self.talk("GET / HTTP/1.1\nHost: a\n\n" * 2 + "GET / HTTP/1.1\nHost: a\nConnection: close\n\n")
        self.assertEqual(answer.count(b"hello"), 3)

    def test_chunks_both_ways(self):
        body = b"3\r\nabc\r\n5;ext=1\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n"
        answer = self.post("/echo", "Transfer-Encoding: chunked\n", body)
        self.assertTrue(answer.endswith(b"\r\n\r\nabcdefgh"), answer)
        self.assertEqual(support.get(self.port, "/stream"), (200, b"part 0;part 1;part 2;"))

    def test_http_10_ends_with_the_connection(self):
        answer = self.talk("GET /stream HTTP/1.0\nConnection: keep-alive\n\n")
        self.assertNotIn(b"chunked", answer)
        self.assertTrue(answer.endswith(b"part 0;part 1;part 2;"), answer)

    def test_what_the_application_leaves_unread_is_skipped(self):
        hidden = b"GET /smuggled HTTP/1.1\r\n\r\n"
        head = b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(hidden)
        answer = self.talk(head + hidden + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.assertEqual(answer.count(b"HTTP/1.1 "), 2, answer)

    def test_continue_is_said_when_the_body_is_read(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(sock.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            sock.sendall(b"wood")
            self.assertTrue(sock.recv(1000).endswith(b"\r\n\r\nwood"))

    def test_a_large_answer_arrives_whole(self):
        status, body = support.get(self.port, "/big")
        self.assertEqual((status, len(body)), (200, 3_000_000))

    def test_no_content_has_no_body(self):
        answer = self.talk("GET /nothing HTTP/1.1\nHost: a\nConnection: close\n\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 204") and answer.endswith(b"\r\n\r\n"), answer)
        self.assertNotIn(b"Transfer-Encoding", answer)

    def test_the_environ(self):
        answer = self.talk("GET /environ?a=b%20c HTTP/1.1\nHost: a\nX-One: 1\nX-One: 2\nCookie: a\nCookie: b\nConnection: close\n\n")
        for wanted in ("('QUERY_STRING', 'a=b%20c')", "('HTTP_X_ONE', '1,2')", "('HTTP_COOKIE', 'a; b')",
                       "('REQUEST_METHOD', 'GET')", "('SERVER_PROTOCOL', 'HTTP/1.1')"):  # fmt: skip
            self.assertIn(wanted.encode(), answer)

    # ---- what is kept out ----

    def test_headers_with_underscores_do_not_arrive(self):
        answer = self.talk("GET /environ HTTP/1.1\nHost: a\nX_Auth_User: evil\nConnection: close\n\n")
        self.assertNotIn(b"evil", answer)

    def test_wrong_heads_are_refused(self):
        for head in (
            "GET /\x01 HTTP/x\n\n", "G(T / HTTP/1.1\n\n", "GET / HTTP %\n",
            "GET / HTTP/1.1\nHost : a\n\n", "GET / HTTP/1.1\nNoColon\n\n", "GET / HTTP/1.1\nA: b\rc\n\n",
            "POST / HTTP/1.1\nContent-Length: 4\nContent-Length: 5\n\nabcd", "POST / HTTP/1.1\nContent-Length: +4\n\nabcd",
            "POST / HTTP/1.1\nContent-Length: -1\n\n", "POST / HTTP/1.1\nContent-Length: 4_0\n\n",
            "POST / HTTP/1.1\nTransfer-Encoding: chunked, gzip\n\n", "POST / HTTP/1.1\nTransfer-Encoding: xchunked\n\n",
            "POST / HTTP/1.1\nContent-Length: 3\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n",
            "POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n",
        ):  # fmt: skip
            with self.subTest(head[:60]):
                self.refused(self.talk(head))

    def test_a_refusal_says_what_it_is_about(self):
        self.refused(self.talk("GET / HTTP/3.0\n\n"), b"505")
        self.refused(self.talk("GET / HTTP/1.1\n" + "A: b\n" * 500 + "\n"), b"431")
        self.refused(self.talk("POST / HTTP/1.1\nTransfer-Encoding: gzip, chunked\n\n"), b"501")

    def test_a_long_request_line_is_refused(self):
        self.refused(self.talk("GET /" + "a" * 9000 + " HTTP/1.1\n\n"), b"414")

    def test_wrong_chunks_are_refused(self):
        for body in (b"x\r\n", b"3\nabc\r\n0\r\n\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"11111111111111111\r\n", b"\r\n",
                     b"0\r\nBad Name: x\r\n\r\n"):  # fmt: skip
            with self.subTest(body):
                self.refused(self.post("/echo", "Transfer-Encoding: chunked\n", body))

    def test_a_broken_chunk_ends_the_connection(self):
        request = b"POST /unread HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /environ HTTP/1.1\r\n\r\n"
        answer = self.talk(request)
        self.assertNotIn(b"REQUEST_METHOD", answer)

    def test_the_application_cannot_split_the_response(self):
        answer = self.talk("GET /split HTTP/1.1\nHost: a\nConnection: close\n\n")
        self.assertIn(b"500 Internal", answer)
        self.assertNotIn(b"Set-Cookie", answer)

    def test_an_error_is_a_500_and_is_reported(self):
        answer = self.talk("GET /raise HTTP/1.1\nHost: a\nCookie: secret\n\n")
        self.assertIn(b"500 Internal", answer)
        report = self.server.output()
        self.assertIn("RuntimeError: expected", report)
        self.assertNotIn("secret", report)

    def test_many_at_once(self):
        clients = [socket.create_connection(("127.0.0.1", self.port), timeout=20) for _ in range(100)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for client in reversed(clients):
            self.assertTrue(client.recv(4096).endswith(b"hello"))
            client.close()


class TLS(support.TestCase):
    def test_it_serves_over_tls(self):
        cert, key = support.certificate(self)
        port = support.free_port()
        self.serves(PROGRAM, port, cert, key, port=port)
        context = ssl.create_default_context(cafile=cert)
        context.check_hostname = False
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw, context.wrap_socket(raw) as sock:
            sock.sendall(b"GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            data = b""
            while part := sock.recv(65536):
                data += part
        self.assertEqual(len(data.partition(b"\r\n\r\n")[2]), 3_000_000)


if __name__ == "__main__":
    unittest.main()
