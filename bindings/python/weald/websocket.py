"""WebSocket, by the library's own servers and clients.

On a WSGI server, in the manner of gevent-websocket::

    def application(environ, start_response):
        socket = environ["wsgi.websocket"]
        for message in socket:
            socket.send(message)
        return []

    WebSocketServer(("", 8000), application).serve_forever()

and from the other side::

    socket = weald.websocket.connect("ws://localhost:8000/")
    socket.send("hello")
    print(socket.receive())

A message is str or bytes. What comes is checked (masks, lengths, UTF-8), pings are answered, and a message longer than
`max_message` ends the connection, also when it is compressed. A `send` waits while too much has not gone; `broadcast`
passes over those who are slow instead.
"""
import contextlib
import sys

from weald._core import WebSocket as _WebSocket
from weald._core import broadcast as _broadcast
from weald._relay import Relay
from weald.pywsgi import WSGIHandler, WSGIServer

__all__ = ["WebSocket", "WebSocketHandler", "WebSocketServer", "broadcast", "connect"]

class WebSocket(_WebSocket):
    """A connection. Iterating gives its messages until the other side closes, or is gone without a word."""

    __slots__ = ("environ", "path", "origin")

    def __iter__(self):
        try:
            while (message := self.receive()) is not None:
                yield message
        except (ConnectionAbortedError, ConnectionResetError):
            return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.abort()


def connect(url, protocols=None, headers=None, deflate=False, max_message=0, timeout=None):
    """A connection to "ws://host:port/path" or "wss:". `headers` is a mapping; `protocols` are names, the best first."""
    if headers:
        headers = "".join(f"{name}: {value}\r\n" for name, value in dict(headers).items())
    if protocols is not None and not isinstance(protocols, str):
        protocols = ",".join(protocols)
    return WebSocket.connect(url, protocols, headers or None, deflate, max_message, timeout)


def broadcast(sockets, message, drop_slow=False):
    """Sends one message to all of `sockets` without waiting for any; how many get it.

    It is made into a frame once. Those who have too much to get already are passed over, or hung up on.
    """
    return _broadcast(list(sockets), message, drop_slow)


class WebSocketHandler(WSGIHandler):
    """Gives the application `environ["wsgi.websocket"]` where a client asks for WebSocket; None elsewhere."""

    # The longest message that is received, and what may wait to go before a send waits. 0: as usual.
    max_message = 0
    max_unsent = 0
    # Subprotocols that the application speaks, the best first.
    protocols = ()
    # The Origins that may connect, "https://oak.example"; None: all. A page of any site can connect to a server, with
    # its reader's cookies.
    origins = None

    uses_socket = False
    _relay = None

    def _move_to_relay(self):
        """Has the library go on with a descriptor, and read the request there again; whether that may be."""
        if self._given_file is not None:
            return False
        self._relay = Relay(self.socket, getattr(self.server, "write_timeout", None))
        line = f"{self.command} {self.path} {self.request_version}\r\n".encode("latin-1")
        return self._move(self._relay.near.fileno(), line + self._head(self._header_pairs()))

    def _close(self):
        relay, self._relay = self._relay, None
        if relay is not None:
            self._hang_up()
            relay.end(at_once=sys.exc_info()[0] is not None)  # a greenlet that was killed waits for nobody
        super()._close()

    def run_application(self):
        self.environ["wsgi.websocket"] = None
        if self.environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return super().run_application()
        if self.origins is not None and self.environ.get("HTTP_ORIGIN") not in self.origins:
            return self._refuse("403 Forbidden", "not from this origin")
        if self._is_foreign and not self._move_to_relay():
            return self._refuse("501 Not Implemented", "no WebSocket over a file")
        socket = self._websocket(WebSocket, self.max_message, self.max_unsent, ",".join(self.protocols) or None)
        self.code, self._orig_status = (101, "101 Switching Protocols") if socket else (400, "400 Bad Request")
        if socket is None:
            return None
        ask = self.environ.get
        socket.environ, socket.path, socket.origin = self.environ, ask("PATH_INFO"), ask("HTTP_ORIGIN")
        self.environ["wsgi.websocket"] = socket
        self.environ["wsgi.websocket_version"] = "13"
        try:
            for _ in self.application(self.environ, lambda status, headers, exc_info=None: None) or ():
                pass
            if not socket.closed:
                with contextlib.suppress(TimeoutError):
                    socket.close(timeout=5)
        except ConnectionError:
            if not socket.closed:
                raise  # another connection's; the end of this one is no error
        except Exception:
            if not socket.closed:
                self._close_after_failure(socket)
            raise
        finally:
            socket.abort()

    @staticmethod
    def _close_after_failure(socket):
        with contextlib.suppress(OSError):
            socket.close(1011, timeout=5)

    def _refuse(self, status, text):
        body = (text + "\n").encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
        self.start_response(status, headers)
        self.result = [body]
        self.process_result()
        self.result = None


class WebSocketServer(WSGIServer):
    handler_class = WebSocketHandler
