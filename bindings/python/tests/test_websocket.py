"""weald.websocket: a server in gevent-websocket's manner, a client, and what they refuse."""
import base64
import gc
import os
import socket as plain_socket
import struct
import threading
import unittest

import support

import weald
import weald.websocket
from weald import ssl
from weald.websocket import WebSocketHandler, WebSocketServer


class Handler(WebSocketHandler):
    protocols = ("leaf.2", "leaf.1")
    max_message = 200_000


def application(environ, start_response):
    socket = environ["wsgi.websocket"]
    if socket is None:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"plain"]
    if environ["PATH_INFO"] == "/fail":
        raise ZeroDivisionError
    if environ["PATH_INFO"] == "/end":
        return []
    for message in socket:
        socket.send(message)
    return []


class WebSocket(unittest.TestCase):
    def setUp(self):
        self.server = WebSocketServer(("127.0.0.1", 0), application, handler_class=Handler, log=None, error_log=None)
        self.server.start()
        self.addCleanup(self.server.stop)
        self.port = self.server.server_port

    def connect(self, path="/", **more):
        socket = weald.websocket.connect(f"ws://127.0.0.1:{self.port}{path}", timeout=20, **more)
        self.addCleanup(socket.abort)
        return socket

    def handshake(self, **headers):
        """The status line of the answer to a request that is made by hand."""
        given = {
            "Host": "x", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }  # fmt: skip
        given.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
        answers = []

        def ask():
            with plain_socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
                client.sendall("\r\n".join([*lines, "", ""]).encode())
                answers.append(client.recv(1000).split(b"\r\n")[0])

        thread = threading.Thread(target=ask)
        thread.start()
        while thread.is_alive():
            weald.sleep(0.001)
        return answers[0]

    def test_text_and_bytes_come_back(self):
        socket = self.connect()
        for message in "hé", b"\x00\xff", "", b"", "x" * 150_000:
            socket.send(message, timeout=20)
            self.assertEqual(socket.receive(timeout=20), message)
        self.assertFalse(socket.closed)

    def test_many_connections_at_once(self):
        def talk(n):
            with self.connect() as socket:
                for i in range(10):
                    socket.send(f"{n} {i}")
                    if socket.receive(timeout=20) != f"{n} {i}":
                        return False
            return True

        self.assertTrue(all(g.get(timeout=60) for g in [weald.spawn(talk, n) for n in range(50)]))

    def test_a_close_says_why(self):
        socket = self.connect()
        socket.close(4000, "leaves fall", timeout=20)
        self.assertTrue(socket.closed)
        self.assertEqual(socket.close_code, 4000)
        with self.assertRaises(BrokenPipeError):
            socket.send("late")

    def test_the_end_of_the_application_closes_and_an_error_is_told(self):
        self.assertIsNone(self.connect("/end").receive(timeout=20))
        hub = weald.get_hub()
        hub.handle_error, before = lambda *what: None, hub.__dict__.get("handle_error")
        try:
            failed = self.connect("/fail")
            self.assertIsNone(failed.receive(timeout=20))
        finally:
            del hub.handle_error
            self.assertIsNone(before)
        self.assertEqual(failed.close_code, 1011)

    def test_a_subprotocol_is_agreed(self):
        self.assertEqual(self.connect(protocols=["leaf.1", "leaf.2", "bark"]).protocol, "leaf.2")
        self.assertEqual(self.connect(protocols="bark").protocol, "")

    def test_a_message_that_is_too_long_ends_the_connection(self):
        socket = self.connect()
        socket.send("x" * 200_001, timeout=20)
        self.assertIsNone(socket.receive(timeout=20))
        self.assertEqual(socket.close_code, 1009)

    def test_a_timeout_leaves_the_connection_as_it_is(self):
        socket = self.connect()
        with self.assertRaises(TimeoutError):
            socket.receive(timeout=0.01)
        with weald.Timeout(0.01, False):
            socket.receive()
        socket.send("still here")
        self.assertEqual(socket.receive(timeout=20), "still here")

    def test_a_killed_receiver_ends_and_one_at_a_time_may_receive(self):
        socket = self.connect()
        receiver = weald.spawn(socket.receive)
        weald.sleep(0.01)
        with self.assertRaises(Exception) as caught:
            socket.receive(timeout=1)
        self.assertEqual(type(caught.exception).__name__, "ConcurrentObjectUseError")
        receiver.kill(timeout=20)
        self.assertTrue(receiver.dead)

    def test_broadcast_reaches_all_that_are_open(self):
        sockets = [self.connect() for _ in range(5)]
        sockets[0].close(timeout=20)
        self.assertEqual(weald.websocket.broadcast(sockets, "to all"), 4)
        self.assertEqual([s.receive(timeout=20) for s in sockets[1:]], ["to all"] * 4)
        self.assertEqual(weald.websocket.broadcast([], "nobody"), 0)

    def test_handshakes_that_are_none(self):
        self.assertIn(b"101", self.handshake())
        self.assertIn(b"426", self.handshake(Sec_WebSocket_Version="8"))
        for wrong in None, "short", "!" * 24, base64.b64encode(b"x" * 17).decode():
            self.assertIn(b"400", self.handshake(Sec_WebSocket_Key=wrong), wrong)
        self.assertIn(b"426", self.handshake(Connection="close"))
        self.assertIn(b"200", self.handshake(Upgrade=None, Connection=None))

    def test_origins_may_be_named(self):
        class Careful(Handler):
            origins = {"https://oak.example"}

        self.server.handler_class = Careful
        self.assertIn(b"403", self.handshake())
        self.assertIn(b"403", self.handshake(Origin="https://elm.example"))
        self.assertIn(b"101", self.handshake(Origin="https://oak.example"))

    def test_a_server_that_does_not_speak_it_is_an_error(self):
        with self.assertRaises(ConnectionError):
            weald.websocket.connect(f"ws://127.0.0.1:{support.free_port()}/", timeout=20)
        with self.assertRaises(OSError):
            weald.websocket.connect("http://127.0.0.1/", timeout=20)

    def test_what_can_not_be_sent(self):
        socket = self.connect()
        with self.assertRaises(TypeError):
            socket.send(5)
        with self.assertRaises(ValueError):
            weald.websocket.WebSocket(socket.fileno(), max_message=-1)
        with self.assertRaises(OSError):
            weald.websocket.WebSocket(-1)


class OverContext(unittest.TestCase):
    """TLS of the interpreter's, by an ssl_context."""

    @classmethod
    def setUpClass(cls):
        cls.cert, cls.key = support.certificate(cls)
        before = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = cls.cert  # whom the client trusts
        cls.addClassCleanup(lambda: os.environ.update(SSL_CERT_FILE=before) if before else os.environ.pop("SSL_CERT_FILE"))

    def serve(self, application=application, handler=Handler, context=None, **more):
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert, self.key)
        self.server = WebSocketServer(("127.0.0.1", 0), application, handler_class=handler, log=None, error_log=None,
                                      ssl_context=context, **more)  # fmt: skip
        self.server.start()
        self.addCleanup(self.server.stop)

    def connect(self, path="/", **more):
        socket = weald.websocket.connect(f"wss://localhost:{self.server.server_port}{path}", timeout=20, **more)
        self.addCleanup(socket.abort)
        return socket

    def secure(self, own=False):
        """A connection of TLS, for requests that are made by hand."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.cert)
        if own:
            context.load_cert_chain(self.cert, self.key)
        sock = weald.socket.create_connection(("127.0.0.1", self.server.server_port), timeout=20)
        sock = context.wrap_socket(sock, server_hostname="localhost")
        self.addCleanup(sock.close)
        return sock

    def upgrade(self, sock, behind=b""):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: \xe9\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + behind)  # fmt: skip
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += sock.recv(4096)
        head, _, rest = answer.partition(b"\r\n\r\n")
        self.assertIn(b"101 Switching", head)
        return rest

    def until(self, what):
        with weald.Timeout(20):
            while not what():
                weald.sleep(0.01)

    def test_messages_of_all_sizes_come_back(self):
        self.serve()
        socket = self.connect()
        for message in "hé", b"\x00\xff", "", b"", "x" * 150_000, os.urandom(199_000):
            socket.send(message, timeout=20)
            self.assertEqual(socket.receive(timeout=20), message)
        socket.close(4000, "leaves fall", timeout=20)
        self.assertEqual(socket.close_code, 4000)

    def test_many_at_once_leave_nothing_behind(self):
        def talk(n):
            with self.connect() as socket:
                for i in range(10):
                    socket.send(f"{n} {i}" * 100)
                    if socket.receive(timeout=20) != f"{n} {i}" * 100:
                        return False
            return True

        def counts():
            return len(os.listdir("/proc/self/fd")), sum(isinstance(o, weald.Greenlet) for o in gc.get_objects())

        self.serve()
        self.assertTrue(talk(0))
        self.until(lambda: not self.server.pool or not len(self.server.pool))
        gc.collect()
        weald.sleep(0.05)
        before = counts()
        self.assertTrue(all(g.get(timeout=60) for g in [weald.spawn(talk, n) for n in range(50)]))
        self.until(lambda: gc.collect() is not None and all(now <= then for now, then in zip(counts(), before)))

    def test_a_client_that_does_not_read_holds_its_sender_back(self):
        sent = []

        def flood(environ, start_response):
            socket = environ["wsgi.websocket"]
            try:
                while len(sent) < 10_000:
                    socket.send(b"%8d" % len(sent) * 1000, timeout=0.3)
                    sent.append(None)
            except TimeoutError:
                sent.append("late")
            socket.receive(timeout=20)
            return []

        self.serve(flood)
        socket = self.connect()
        self.until(lambda: "late" in sent)
        for n in range(len(sent) - 1):
            self.assertEqual(socket.receive(timeout=20), b"%8d" % n * 1000)
        socket.send("read", timeout=20)
        self.assertIsNone(socket.receive(timeout=20))

    def test_a_client_that_is_gone_ends_the_application(self):
        ended = []

        def listen(environ, start_response):
            for message in environ["wsgi.websocket"]:
                pass
            ended.append(True)
            return []

        self.serve(listen)
        for linger in (0, 0), (1, 0):
            sock = self.secure()
            self.upgrade(sock)
            sock.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", *linger))
            sock.close()
        self.until(lambda: len(ended) == 2)

    def test_stop_does_not_wait_for_a_client_that_does_not_read(self):
        stuck = weald.event.Event()

        def flood(environ, start_response):
            socket = environ["wsgi.websocket"]
            try:
                while True:
                    socket.send(b"x" * 100_000, timeout=0.3)
            except TimeoutError:
                stuck.set()
            socket.send(b"x" * 100_000)

        self.serve(flood, spawn=10)
        self.upgrade(self.secure())
        self.assertTrue(stuck.wait(20))
        with weald.Timeout(10):
            self.server.stop(timeout=0.1)

    def test_a_handler_sees_the_client_s_certificate(self):
        seen = []

        class Curious(Handler):
            def get_environ(self):
                seen.append((self.socket.getpeercert()["subject"], self.socket.version()))
                return super().get_environ()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        context.load_verify_locations(self.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.serve(handler=Curious, context=context)
        self.upgrade(self.secure(own=True))
        self.assertEqual(seen, [(((("commonName", "localhost"),),), "TLSv1.2")])
        with self.assertRaises(OSError):
            self.upgrade(self.secure())

    def test_what_comes_with_the_request_is_heard_and_the_end_is_said(self):
        self.serve()
        sock = self.secure()
        sock.suppress_ragged_eofs = False  # an end that TLS does not say would raise
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(sock.recv(4096).endswith(b"plain"))
        heard = self.upgrade(sock, b"\x82\x81" + bytes(4) + b"x" + b"\x88\x80" + bytes(4))
        while part := sock.recv(4096):
            heard += part
        self.assertEqual(heard, b"\x82\x01x\x88\x00")

    def test_other_requests_are_answered_without_a_relay(self):
        relays = []

        class Watched(Handler):
            def _close(self):
                relays.append(self._relay)
                super()._close()

        def pages(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["wsgi.url_scheme"].encode(), b"x" * 3_000_000]

        self.serve(pages, Watched)
        sock = self.secure()
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = b""
        while part := sock.recv(65536):
            answer += part
        self.assertEqual(answer.count(b"\r\n\r\nhttpsx"), 2)
        self.assertEqual(answer.count(b"x" * 3_000_000), 2)
        self.until(lambda: relays == [None])

    def test_a_request_that_is_no_handshake_is_refused(self):
        self.serve()
        sock = self.secure()
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 8\r\n\r\n")  # fmt: skip
        self.assertIn(b" 426 ", sock.recv(4096))

    def test_a_file_with_both_will_do(self):
        with open(self.cert, "ab") as both, open(self.key, "rb") as key:
            both.write(key.read())
        self.server = WebSocketServer(("127.0.0.1", 0), application, handler_class=Handler, log=None, certfile=self.cert)
        self.server.start()
        self.addCleanup(self.server.stop)
        socket = self.connect()
        socket.send("bark", timeout=20)
        self.assertEqual(socket.receive(timeout=20), "bark")


if __name__ == "__main__":
    unittest.main()
