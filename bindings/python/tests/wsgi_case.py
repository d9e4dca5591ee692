"""A WSGI server for a test: server and clients are greenlets of one process."""
import unittest

import weald
from weald import socket
from weald.pywsgi import WSGIHandler, WSGIServer

GET = b"GET / HTTP/1.1\r\nHost: oak\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: oak\r\nConnection: close\r\n\r\n"

# What a subclass of WSGIHandler may override.
POINTS = (
    "handle", "handle_one_request", "read_requestline", "read_request", "get_environ", "handle_one_response",
    "run_application", "start_response", "process_result", "write", "finalize_headers", "log_request",
    "format_request",
)  # fmt: skip


def overridden():
    """A list, and a class that overrides all of them and notes in the list which of them is called."""
    calls = []

    def tells(name):
        def call(handler, *args, **kwargs):
            calls.append(name)
            return getattr(WSGIHandler, name)(handler, *args, **kwargs)

        return call

    return calls, type("Tells", (WSGIHandler,), {name: tells(name) for name in POINTS})


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
