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
import base64
import binascii
import contextlib
import hashlib

from weald._core import WebSocket as _WebSocket
from weald._core import broadcast as _broadcast
from weald.pywsgi import WSGIHandler, WSGIServer

__all__ = ["WebSocket", "WebSocketHandler", "WebSocketServer", "broadcast", "connect"]

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


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


def accept_key(key):
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


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

    def run_application(self):
        self.environ["wsgi.websocket"] = None
        if self.environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return super().run_application()
        problem = self._problem()
        if problem:
            return self._refuse(*problem)
        socket = self._accept()
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

    def _problem(self):
        """Why there will be no WebSocket: a status and a text; None if there will be."""
        ask = self.environ.get
        if self.command != "GET" or self.request_version != "HTTP/1.1":
            return "400 Bad Request", "WebSocket begins with GET and HTTP/1.1"
        if "upgrade" not in {word.strip().lower() for word in ask("HTTP_CONNECTION", "").split(",")}:
            return "400 Bad Request", "Connection does not say Upgrade"
        if ask("HTTP_SEC_WEBSOCKET_VERSION") != "13":
            return "426 Upgrade Required", "WebSocket of version 13 is spoken here"
        try:
            if len(base64.b64decode(ask("HTTP_SEC_WEBSOCKET_KEY", ""), validate=True)) != 16:
                raise binascii.Error
        except binascii.Error:
            return "400 Bad Request", "Sec-WebSocket-Key is no key"
        if self.origins is not None and ask("HTTP_ORIGIN") not in self.origins:
            return "403 Forbidden", "not from this origin"
        if not hasattr(self.socket, "fileno") or hasattr(self.socket, "cipher"):
            return "501 Not Implemented", "no WebSocket over TLS here: let a proxy do that"
        return None

    def _refuse(self, status, text):
        body = (text + "\n").encode()
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("Connection", "close")]
        if status.startswith("426"):
            headers.append(("Sec-WebSocket-Version", "13"))
        self.start_response(status, headers)
        self.result = [body]
        self.process_result()
        self.result = None

    def _accept(self):
        ask = self.environ.get
        offered = [word.strip() for word in ask("HTTP_SEC_WEBSOCKET_PROTOCOL", "").split(",")]
        chosen = next((name for name in self.protocols if name in offered), None)
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Accept: {accept_key(ask('HTTP_SEC_WEBSOCKET_KEY'))}"]  # fmt: skip
        if chosen:
            lines.append(f"Sec-WebSocket-Protocol: {chosen}")
        self.close_connection = True
        self.status, self.code = lines[0].partition(" ")[2], 101
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        socket = WebSocket(self.socket.fileno(), False, False, self.max_message, self.max_unsent)
        socket.environ, socket.path, socket.origin = self.environ, ask("PATH_INFO"), ask("HTTP_ORIGIN")
        return socket


class WebSocketServer(WSGIServer):
    handler_class = WebSocketHandler
