"""What a request of `weald.pywsgi` is read by: its headers, its body, and the connection as a file."""
import http.client
import sys

from weald import _core

MAX_REQUEST_LINE = 8192


class _InvalidClientInput(OSError):
    """The body of a request is not what it should be."""


class OldMessage(http.client.HTTPMessage):
    """The headers of a request: a message of the standard library, and what mimetools.Message had."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # What is wrong with them: nothing, since the library has read them.
        self.status = ""

    @classmethod
    def of(cls, pairs):
        message = cls()
        for name, value in pairs:
            message.set_raw(name, value)
        return message

    def getheader(self, name, default=None):
        return self.get(name, default)

    @property
    def headers(self):
        """The lines."""
        return (f"{name}: {value}\r\n" for name, value in self.raw_items())

    @property
    def typeheader(self):
        return self.get("content-type")


def headers_factory(fp, *_):
    """The headers that a file begins with."""
    try:
        return http.client.parse_headers(fp, _class=OldMessage)
    except http.client.LineTooLong:
        message = OldMessage()
        message.status = "Line too long"
        return message


class _Raw:
    """What is below a connection's file: where programs look for its socket."""

    __slots__ = ("_sock",)

    def __init__(self, sock):
        self._sock = sock


class _ConnectionFile(_core.ConnectionFile):
    """A handler's rfile: reads the connection itself, past whatever is a request."""

    def __init__(self, handler):
        self.raw = _Raw(handler.socket)

    def _open(self):
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return self._handler

    def fileno(self):
        return self._open().socket.fileno()

    def readable(self):
        return True

    def readinto(self, buffer):
        with memoryview(buffer).cast("B") as view:
            data = self.read(len(view))
            view[: len(data)] = data
        return len(data)

    def readline(self, size=-1):
        handler, parts = self._open(), []
        while size is None or size < 0 or size:
            part = handler._raw_line(-1 if size is None or size < 0 else size)
            parts.append(part)
            if not part or part.endswith(b"\n"):
                break
            if size is not None and size > 0:
                size -= len(part)
        return b"".join(parts)

    def readlines(self, hint=-1):
        return list(self)

    def __iter__(self):
        return iter(self.readline, b"")


class Input:
    """A wsgi.input over a file of any kind, for those who make one themselves: the server's own is of the library.

    With a socket, the client waits for a word before it sends: it gets it when the body is first read.
    """

    __slots__ = ("rfile", "content_length", "socket", "position", "chunked_input", "chunk_length", "send_100_continue_enabled",
                 "_chunked_input_error", "_left", "_has_ended")  # fmt: skip

    def __init__(self, rfile, content_length, socket=None, chunked_input=False):
        self.rfile, self.content_length, self.socket = rfile, content_length, socket
        self.chunked_input, self.position = chunked_input, 0
        self.chunk_length = -1
        self._chunked_input_error = False
        self._left = 0 if chunked_input else content_length or 0
        self._has_ended = not chunked_input
        self.send_100_continue_enabled = True

    def _broken(self, text):
        self._chunked_input_error = True
        return OSError(text) if "end of file" in text else _InvalidClientInput(text)

    def _line(self):
        line = self.rfile.readline(MAX_REQUEST_LINE)
        if not line:
            raise self._broken("unexpected end of file while parsing chunked data")
        if not line.endswith(b"\r\n"):
            raise self._broken(f"a line of the chunks that does not end: {line[:20]!r}")
        return line[:-2]

    def _next_chunk(self):
        size = self._line().partition(b";")[0]
        if not size or len(size) > 16 or size.strip(b"0123456789abcdefABCDEF"):
            raise self._broken(f"the size of a chunk: {size[:20]!r}")
        self._left = self.chunk_length = int(size, 16)
        if not self._left:
            self._has_ended = True
            while self._line():
                pass  # a trailer

    def _some(self, most, read):
        """Up to `most` bytes (None: any number), by one call of `read`; nothing at the end."""
        if self.socket is not None and self.send_100_continue_enabled:
            sock, self.socket = self.socket, None
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self._left and not self._has_ended:
            self._next_chunk()
        most = self._left if most is None else min(most, self._left)
        if not most:
            return b""
        data = read(min(most, sys.maxsize >> 8))
        if not data:
            if self.chunked_input:
                raise self._broken("unexpected end of file while parsing chunked data")
            raise OSError(f"unexpected end of file while reading request at position {self.position}")
        self.position += len(data)
        self._left -= len(data)
        if not self._left and self.chunked_input and self._line():
            raise self._broken("a chunk is longer than it said")
        return data

    def _gather(self, size, read, line):
        size = None if size is None or size < 0 else size
        parts = []
        while size is None or size:
            data = self._some(size, read)
            parts.append(data)
            if not data or (line and data.endswith(b"\n")):
                break
            if size is not None:
                size -= len(data)
        return b"".join(parts)

    def read(self, length=None):
        """So many bytes; fewer only at the end."""
        return self._gather(length, self.rfile.read, False)

    def readline(self, size=None):
        """A line, or so much of it."""
        return self._gather(size, lambda most: self.rfile.readline(min(most, 1 << 20)), True)

    def readlines(self, hint=None):
        return list(self)

    def __iter__(self):
        return iter(self.readline, b"")

    def __next__(self):
        if line := self.readline():
            return line
        raise StopIteration

    next = __next__
