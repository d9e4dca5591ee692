"""A WSGI server for HTTP/1.1: `WSGIServer(("", 8000), application).serve_forever()`.

A connection has one WSGIHandler, which handles its requests one after the other. Subclasses change what they like, and
are given to the server as handler_class: read_requestline, read_request, get_environ, run_application, start_response,
finalize_headers, write, process_result, handle_error, log_request, format_request.

What comes from the network is taken strictly. A header name is a token, and one with an underscore never reaches the
application, which could not tell it from one with a hyphen. Content-Length is digits, and said once; a body that says
how long it is in two ways is read as chunks. A chunk and its trailers must be exactly right, or the connection ends. A
response has no line break that the application did not mean. Small responses are one write, and TCP_NODELAY is set.
"""
import errno
import re
import socket as _stdlib_socket
import sys
import time
import traceback
from urllib.parse import unquote_to_bytes

import weald
from weald.hub import GreenletExit
from weald.server import StreamServer

__all__ = ["WSGIServer", "WSGIHandler", "LoggingLogAdapter", "Environ", "SecureEnviron", "WSGISecureEnviron"]

MAX_REQUEST_LINE = 8192
_MAX_HEADER_LINE = 65536
_MAX_HEADERS = 128
# Up to here headers and body are put together, so that they are one write; above, copying costs more than a write.
_ONE_WRITE = 65536

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VERSION = re.compile(r"HTTP/(\d)\.(\d)")
_BAD_IN_VALUE = re.compile(r"[\r\n\0]")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_TOKEN_BYTES = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")

_ERRORS = {
    400: ("400 Bad Request", [("Content-Type", "text/plain"), ("Connection", "close"), ("Content-Length", "0")], b""),
    500: (
        "500 Internal Server Error",
        [("Content-Type", "text/plain"), ("Connection", "close"), ("Content-Length", "21")],
        b"Internal Server Error",
    ),
}
_REQUEST_TOO_LONG_RESPONSE = b"HTTP/1.1 414 Request URI Too Long\r\nConnection: close\r\nContent-length: 0\r\n\r\n"
_BAD_REQUEST_RESPONSE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-length: 0\r\n\r\n"
_CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"

_DAYS = "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"
_MONTHS = "", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"
_date = (0, b"")


def format_date_time(timestamp):
    """The time as HTTP writes it. Never in the user's language, as strftime would."""
    global _date
    second = int(timestamp)
    if _date[0] != second:
        year, month, day, hour, minute, sec, weekday, *_ = time.gmtime(second)
        text = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month]} {year:04} {hour:02}:{minute:02}:{sec:02} GMT"
        _date = second, text.encode()
    return _date[1]


class _InvalidClientInput(OSError):
    """The body of a request is not what it should be."""


class _InvalidClientRequest(ValueError):
    """The head of a request is not what it should be."""

    def __init__(self, message):
        super().__init__(message)
        self.formatted_message = message


# ---- reading a request ----


class Input:
    """wsgi.input: the body of a request, and no byte more.

    With a socket, the client waits for a word before it sends: it gets it when the body is first read.
    """

    __slots__ = ("rfile", "content_length", "socket", "position", "chunked_input", "chunk_length",
                 "_chunked_input_error", "send_100_continue_enabled")  # fmt: skip

    def __init__(self, rfile, content_length, socket=None, chunked_input=False):
        self.rfile = rfile
        self.content_length = content_length
        self.socket = socket
        self.position = 0  # in the body, or in the chunk
        self.chunked_input = chunked_input
        self.chunk_length = -1  # -1 before the first, 0 after the last
        self._chunked_input_error = False
        self.send_100_continue_enabled = True

    def _skip_rest(self):
        """Reads what the application left, so that the next request begins where it should."""
        if self._chunked_input_error:
            # There is no telling where that is.
            return
        if self.chunked_input or self.position < (self.content_length or 0):
            self.send_100_continue_enabled = False
            while self.read(16384):
                pass
            self.send_100_continue_enabled = True

    def _send_100_continue(self):
        if self.socket is not None and self.send_100_continue_enabled:
            self.socket.sendall(_CONTINUE_RESPONSE)
            self.socket = None

    def read(self, length=None):
        """Up to `length` bytes; fewer only at the end."""
        if length is not None and length < 0:
            length = None
        return self._chunked_read(length) if self.chunked_input else self._do_read(length)

    def readline(self, size=None):
        """Up to a line, and up to `size` bytes of it."""
        if size is not None and size < 0:
            size = None
        return self._chunked_read(size, True) if self.chunked_input else self._do_read(size, True)

    def readlines(self, hint=None):
        return list(self)

    def __iter__(self):
        return self

    def __next__(self):
        if line := self.readline():
            return line
        raise StopIteration

    next = __next__

    def _do_read(self, length=None, use_readline=False):
        if self.content_length is None:
            return b""
        self._send_100_continue()
        left = self.content_length - self.position
        length = left if length is None else min(length, left)
        if not length:
            return b""
        data = self._read_line(length) if use_readline else self.rfile.read(length)
        self.position += len(data)
        if len(data) < length and not (use_readline and data.endswith(b"\n")):
            raise OSError(f"unexpected end of file while reading request at position {self.position}")
        return data

    def _read_line(self, length):
        try:
            return self.rfile.readline(length)
        except OverflowError:
            # A length that the file takes for a machine word.
            data = b""
            while len(data) < length and not data.endswith(b"\n"):
                more = self.rfile.readline(MAX_REQUEST_LINE)
                if not more:
                    break
                data += more
            return data

    # ---- chunks ----

    def _chunked_read(self, length=None, use_readline=False):
        self._send_100_continue()
        if length == 0:
            return b""
        read = self.rfile.readline if use_readline else self.rfile.read
        parts = []
        while self.chunk_length:
            wanted = self.chunk_length - self.position
            if wanted <= 0:
                self.chunk_length = self._read_chunk_length()
                self.position = 0
                continue
            if length is not None:
                wanted = min(wanted, length)
            data = read(wanted)
            if not data:
                self.chunk_length = 0
                self._chunked_input_error = True
                raise OSError("unexpected end of file while parsing chunked data")
            parts.append(data)
            self.position += len(data)
            if self.position == self.chunk_length:
                self._read_crlf()
            if length is not None:
                length -= len(data)
                if not length:
                    break
            if use_readline and data.endswith(b"\n"):
                break
        return b"".join(parts)

    def _broken(self, *what):
        self._chunked_input_error = True
        return _InvalidClientInput(*what)

    # Byte by byte: where something is wrong, nothing may be waited for that a correct client would send.
    def _read_chunk_length(self):
        read = self.rfile.read
        digits = b""
        while True:
            char = read(1)
            if char in (b"\r", b";"):
                break
            if not char:
                raise self._broken("EOF before chunk end reached")
            if char[0] not in _HEX:
                raise self._broken("Non-hex data", char)
            digits += char
            if len(digits) > 16:
                raise self._broken("Chunk-size too large.")
        if not digits:
            raise self._broken("Chunk without a size")
        if char == b";":
            for _ in range(MAX_REQUEST_LINE):
                char = read(1)
                if char in (b"\r", b""):
                    break
            else:
                raise self._broken("Too large chunk extension")
            if not char:
                raise self._broken("EOF before chunk end reached")
        self._read_lf()
        size = int(digits, 16)
        if not size:
            while self._read_trailer():
                pass
        return size

    def _read_trailer(self):
        """Reads one line of the trailer, and forgets it. False if it is the empty one, which is the last."""
        read = self.rfile.read
        in_name = True
        for position in range(MAX_REQUEST_LINE):
            char = read(1)
            if char == b"\r":
                self._read_lf()
                if position and in_name:
                    raise self._broken("Trailer without a name")
                return position > 0
            if char == b":" and position:
                in_name = False
            if not char or (in_name and char[0] not in _TOKEN_BYTES):
                raise self._broken(f"Invalid token character: {char!r}")
        raise self._broken("Too large chunk trailer")

    def _read_crlf(self):
        char = self.rfile.read(1)
        if char != b"\r":
            raise self._broken(f"Line didn't end in CRLF: {char!r}")
        self._read_lf()

    def _read_lf(self):
        char = self.rfile.read(1)
        if char != b"\n":
            raise self._broken(f"Line didn't end in LF: {char!r}")


class Headers:
    """The headers of a request, in their order; looked up without regard to case.

    `status` is empty, or says what is wrong with them.
    """

    __slots__ = ("items", "_first", "status")

    def __init__(self, file=None, *_):
        self.items = []
        self._first = {}
        self.status = ""
        if file is not None:
            self._read(file)

    def _read(self, file):
        readline, items = file.readline, self.items
        while True:
            line = readline(_MAX_HEADER_LINE + 1)
            if line in (b"\r\n", b"\n", b""):
                break
            if len(line) > _MAX_HEADER_LINE:
                self.status = "Line too long"
                return
            if len(items) >= _MAX_HEADERS:
                self.status = "Too many headers"
                return
            text = line.decode("latin-1").rstrip("\r\n")
            if text[0:1] in (" ", "\t") and items:
                # Folded: obsolete, but still sent. It is one space.
                name, value = items[-1]
                items[-1] = name, f"{value} {text.strip()}"
                continue
            name, colon, value = text.partition(":")
            if not colon or not _TOKEN.fullmatch(name) or _BAD_IN_VALUE.search(value):
                self.status = f"Bad header line {text[:80]!r}"
                return
            items.append((name, value.strip(" \t")))
        first = self._first
        for name, value in items:
            first.setdefault(name.lower(), value)

    def get(self, name, default=None):
        return self._first.get(name.lower(), default)

    getheader = get
    __getitem__ = get

    def get_all(self, name):
        name = name.lower()
        return [value for key, value in self.items if key.lower() == name]

    def __contains__(self, name):
        return name.lower() in self._first

    def __delitem__(self, name):
        name = name.lower()
        del self._first[name]
        self.items = [item for item in self.items if item[0].lower() != name]

    def __iter__(self):
        return (name for name, _ in self.items)

    @property
    def headers(self):
        """The lines."""
        return (f"{name}: {value}\r\n" for name, value in self.items)

    @property
    def typeheader(self):
        return self.get("content-type")


headers_factory = Headers


class WSGIHandler:
    """Handles the requests of one connection."""

    protocol_version = "HTTP/1.1"
    MessageClass = Headers
    ApplicationError = AssertionError
    ignored_socket_errors = (errno.EPIPE, errno.ECONNRESET)
    _print_unexpected_exc = staticmethod(traceback.print_exc)

    # Of the request.
    environ = application = wsgi_input = None
    requestline = request_version = command = path = None
    content_length = 0
    headers = Headers()
    # Of the response. Text that goes out is bytes; _orig_status is what the application gave.
    status = _orig_status = response_headers = code = result = None
    provided_date = provided_content_length = None
    headers_sent = response_use_chunked = connection_upgraded = False
    response_length = 0
    # Of the connection.
    close_connection = False
    time_start = time_finish = 0

    def __init__(self, sock, address, server, rfile=None):
        self.socket = sock
        self.client_address = address
        self.server = server
        self.rfile = sock.makefile("rb", -1) if rfile is None else rfile

    # ---- the connection ----

    def handle(self):
        """Handles requests until the connection ends."""
        try:
            while self.socket is not None:
                self.time_start, self.time_finish = time.time(), 0
                outcome = self.handle_one_request()
                if outcome is True:
                    continue
                if outcome is not None:
                    self._end_with(*outcome)
                break
        finally:
            self._close()

    def _end_with(self, status, response):
        """The last response, for a request that no application saw."""
        self.status = status
        self.socket.sendall(response)
        self.time_finish = self.time_finish or time.time()
        self.log_request()

    def _close(self):
        if self.socket is not None:
            raw = getattr(self.socket, "_sock", None)
            try:
                if raw:
                    # What has come and is not read would make the kernel reset the connection, and the client could
                    # miss the end of the response.
                    raw.recv(16384)
            except OSError:
                pass
            for part in self.socket, self.rfile:
                # The descriptor lives until both are closed.
                try:
                    part.close()
                except OSError:
                    pass
        for name in "socket", "rfile", "wsgi_input":
            self.__dict__.pop(name, None)

    def handle_one_request(self):
        """Handles a request.

        Returns True if another may follow, None if the connection shall end, or (status, response) for an error.
        """
        if self.rfile.closed:
            return None
        try:
            self.requestline = self.read_requestline()
            if isinstance(self.requestline, bytes):
                self.requestline = self.requestline.decode("latin-1")
        except OSError:
            # Reset, or timed out, between two requests.
            return None
        if not self.requestline:
            return None
        self.response_length = 0
        if len(self.requestline) >= MAX_REQUEST_LINE:
            return "414", _REQUEST_TOO_LONG_RESPONSE
        try:
            if not self.read_request(self.requestline):
                return "400", _BAD_REQUEST_RESPONSE
        except Exception as problem:
            return self._handle_client_error(problem)
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        return None if self.close_connection or self.rfile.closed else True

    # ---- the request ----

    def read_requestline(self):
        """The first line of a request, as text."""
        return self.rfile.readline(MAX_REQUEST_LINE).decode("latin-1")

    def read_request(self, raw_requestline):
        """Reads the head of a request. Raises ValueError if it is wrong."""
        line = self.requestline = raw_requestline.rstrip()
        words = line.split()
        # HTTP/0.9 has no version, and GET alone.
        if len(words) not in (2, 3):
            raise _InvalidClientRequest(f"Invalid HTTP method: {raw_requestline!r}")
        self.command, self.path, self.request_version = words if len(words) == 3 else (*words, "HTTP/0.9")
        if len(words) == 2 and self.command != "GET":
            raise _InvalidClientRequest(f"Expected GET method; Got {self.command!r} in {raw_requestline!r}")
        if len(words) == 3 and not self._check_http_version():
            raise _InvalidClientRequest(f"Invalid http version: {raw_requestline!r}")
        if not _TOKEN.fullmatch(self.command):
            raise _InvalidClientRequest(f"Invalid HTTP method: {raw_requestline!r}")
        headers = self.headers = self.MessageClass(self.rfile, 0)
        if headers.status:
            raise _InvalidClientRequest(f"Invalid headers status: {headers.status!r}")
        self.content_length = self._read_framing(headers)
        connection = headers.get("connection", "").lower()
        if self.request_version == "HTTP/1.1":
            self.close_connection = "close" in map(str.strip, connection.split(","))
        else:
            self.close_connection = self.request_version != "HTTP/1.0" or connection != "keep-alive"
        return True

    def _check_http_version(self):
        match = _VERSION.fullmatch(self.request_version)
        return match is not None and match[1] in "01" and match.groups() >= ("0", "9")

    def _read_framing(self, headers):
        """How long the body is; None if nothing says so, or it is chunked."""
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked" or len(self._all(headers, "transfer-encoding")) > 1:
                raise _InvalidClientRequest(f"Invalid Transfer-Encoding: {coding!r}")
            if "content-length" in headers:
                # It must not be believed, nor be seen by the application.
                del headers["content-length"]
            return None
        lengths = self._all(headers, "content-length")
        if not lengths:
            return None
        if len(set(lengths)) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
            raise _InvalidClientRequest(f"Invalid Content-Length: {lengths!r}")
        length = int(lengths[0])
        if length and self.command == "HEAD":
            raise _InvalidClientRequest("Unexpected Content-Length")
        return length

    @staticmethod
    def _all(headers, name):
        # A MessageClass of a subclass may be a message of the standard library.
        return headers.get_all(name) or []

    def _headers(self):
        """The headers of the request under the names that WSGI gives them; those with an underscore are left out."""
        for line in self.headers.headers:
            name, _, value = line.partition(":")
            if "_" not in name:
                name = name.replace("-", "_").upper()
                if name not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                    yield "HTTP_" + name, value.strip()

    def get_environ(self):
        """The environment of the request: the server's, and what the request adds."""
        env = self.server.get_environ()
        headers = self.headers
        env["REQUEST_METHOD"] = self.command
        env["SCRIPT_NAME"] = ""
        path, _, env["QUERY_STRING"] = self.path.partition("?")
        env["PATH_INFO"] = unquote_to_bytes(path.encode("latin-1")).decode("latin-1") if "%" in path else path
        content_type = headers.typeheader
        if content_type is not None:
            env["CONTENT_TYPE"] = content_type
        length = headers.get("content-length")
        if length:
            env["CONTENT_LENGTH"] = length
        env["SERVER_PROTOCOL"] = self.request_version
        address = self.client_address
        if isinstance(address, tuple):
            env["REMOTE_ADDR"] = str(address[0])
            env["REMOTE_PORT"] = str(address[1])
        for name, value in self._headers():
            if name in env:
                env[name] += ("; " if "COOKIE" in name else ",") + value
            else:
                env[name] = value
        waits = env.get("HTTP_EXPECT", "").lower() == "100-continue"
        chunked = env.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
        self.wsgi_input = Input(
            self.rfile, self.content_length, socket=self.socket if waits else None, chunked_input=chunked
        )
        # After an upgrade what comes is no body, and the application reads it as it likes.
        upgrade = self._connection_upgrade_requested()
        env["wsgi.input"] = self.rfile if upgrade else self.wsgi_input
        env["wsgi.input_terminated"] = not upgrade
        return env

    def _connection_upgrade_requested(self):
        get = self.headers.get
        return get("connection", "").lower() == "upgrade" or get("upgrade", "").lower() == "websocket"

    # ---- the response ----

    def handle_one_response(self):
        """Calls the application, and deals with what goes wrong."""
        self.time_start = time.time()
        self.status = self.result = None
        self.response_length = 0
        self.headers_sent = self.response_use_chunked = self.connection_upgraded = False
        try:
            try:
                self.run_application()
            finally:
                try:
                    self.wsgi_input._skip_rest()
                except _InvalidClientInput:
                    raise
                except OSError:
                    # The client has gone; no use to say so.
                    pass
        except _InvalidClientInput as problem:
            self._handle_client_error(problem)
            self.close_connection = True
            self._send_error_response_if_possible(400)
        except OSError as problem:
            if problem.args and problem.args[0] in self.ignored_socket_errors:
                self.close_connection = True
            else:
                self.handle_error(*sys.exc_info())
        except BaseException:
            self.handle_error(*sys.exc_info())
        finally:
            if self.wsgi_input is not None and self.wsgi_input._chunked_input_error:
                self.close_connection = True
            self.time_finish = time.time()
            self.log_request()

    def run_application(self):
        """Calls the application, and sends what it returns."""
        assert self.result is None
        try:
            self.result = self.application(self.environ, self.start_response)
            self.process_result()
        finally:
            close = getattr(self.result, "close", None)
            try:
                if close is not None:
                    close()
            finally:
                # A greenlet's frame would keep what is kept here.
                close = None
                self.result = None

    def process_result(self):
        """Sends what the application returned."""
        for data in self.result:
            if data:
                self.write(data)
        if self.status and not self.headers_sent:
            self.write(b"")
        if self.response_use_chunked:
            self._sendall(b"0\r\n\r\n")

    def start_response(self, status, headers, exc_info=None):
        """What the application calls: keeps status and headers until there is something to write."""
        if exc_info:
            try:
                if self.headers_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        encoded = []
        connection = date = length = None
        header = value = None
        try:
            for header, value in headers:
                if not (isinstance(header, str) and isinstance(value, str)):
                    raise UnicodeError("the name and the value of a header must be str", header, value)
                if _BAD_IN_VALUE.search(header):
                    raise ValueError("carriage return or newline in header name", header)
                if _BAD_IN_VALUE.search(value):
                    raise ValueError("carriage return or newline in header value", value)
                encoded.append((header.encode("latin-1"), value.encode("latin-1")))
                lower = header.lower()
                if lower == "content-length":
                    length = value
                elif lower == "connection":
                    connection = value
                elif lower == "date":
                    date = value
        except UnicodeEncodeError:
            raise UnicodeError("Non-latin1 header", repr(header), repr(value)) from None
        if not isinstance(status, str):
            raise UnicodeError("The status string must be a native string")
        if _BAD_IN_VALUE.search(status):
            raise ValueError("carriage return or newline in status", status)
        code = int(status.split(" ", 1)[0])
        self.status = status.encode("latin-1")
        self._orig_status = status
        self.response_headers = encoded
        self.code = code
        self.provided_date = date
        self.provided_content_length = length
        if connection is not None:
            if connection.lower() == "close":
                self.close_connection = True
        elif self.request_version == "HTTP/1.0":
            encoded.append((b"Connection", b"close" if self.close_connection else b"keep-alive"))
        if code in (304, 204) and length is not None and length != "0":
            # Bytes: some applications return the arguments as a body.
            raise self.ApplicationError(
                f"Invalid Content-Length for {code} response: {length!r} (must be absent or zero)".encode("latin-1")
            )
        return self.write

    def finalize_headers(self):
        """Adds what the application left out, just before the headers are sent."""
        if self.provided_date is None:
            self.response_headers.append((b"Date", format_date_time(time.time())))
        self.connection_upgraded = self.code == 101
        if self.code in (304, 204) or self.provided_content_length is not None:
            return
        if hasattr(self.result, "__len__"):
            length = sum(map(len, self.result))
            self.response_headers.append((b"Content-Length", b"%d" % length))
        elif not self.connection_upgraded:
            if self.request_version == "HTTP/1.1":
                self.response_use_chunked = True
                self.response_headers.append((b"Transfer-Encoding", b"chunked"))
            elif not self.close_connection:
                # Only its end tells such a client that the body has ended.
                self.close_connection = True
                self.response_headers = [
                    (name, b"close" if name == b"Connection" else value) for name, value in self.response_headers
                ]

    def write(self, data):
        """Sends a part of the body, with the headers before the first."""
        if data and self.code in (304, 204):
            raise self.ApplicationError(f"The {self.code} response must have no body")
        if not (self.headers_sent or self.status):
            raise self.ApplicationError("The application did not call start_response()")
        send = self._write if self.headers_sent else self._write_with_headers
        send(data)

    def _write(self, data):
        if not data:
            return
        self._sendall(b"%x\r\n%b\r\n" % (len(data), data) if self.response_use_chunked else data)

    def _write_with_headers(self, data):
        self.headers_sent = True
        self.finalize_headers()
        head = [b"HTTP/1.1 ", self.status, b"\r\n"]
        for name, value in self.response_headers:
            head += name, b": ", value, b"\r\n"
        head.append(b"\r\n")
        if data and len(data) <= _ONE_WRITE:
            if self.response_use_chunked:
                head += b"%x\r\n" % len(data), data, b"\r\n"
            else:
                head.append(data)
            data = b""
        self._sendall(b"".join(head))
        self._write(data)

    def _sendall(self, data):
        try:
            self.socket.sendall(data)
        except OSError as problem:
            self.status = f"socket error: {problem}"
            if self.code > 0:
                self.code = -self.code
            raise
        self.response_length += len(data)

    # ---- what goes wrong ----

    def log_error(self, msg, *args):
        """Writes to the server's error log."""
        message = msg
        if args:
            try:
                message = msg % args
            except Exception:
                self._print_unexpected_exc()
                message = f"{msg!r} {args!r}"
        try:
            message = f"{self.socket}: {message}"
        except Exception:
            pass
        try:
            self.server.error_log.write(message + "\n")
        except Exception:
            self._print_unexpected_exc()

    def handle_error(self, t, v, tb):
        """The application raised: reports it, and answers 500 if nothing is sent yet."""
        self._log_error(t, v, tb)
        t = v = tb = None
        self._send_error_response_if_possible(500)

    def _log_error(self, t, v, tb):
        if issubclass(t, GreenletExit):
            return
        context = self.environ
        if not isinstance(context, self.server.secure_environ_class):
            # It goes into logs, and has cookies and passwords.
            context = self.server.secure_environ_class(context)
        self.server.loop.handle_error(context, t, v, tb)

    def _handle_client_error(self, problem):
        """The client sent something wrong: says so in the error log, without a traceback, and what to answer."""
        if not isinstance(problem, (ValueError, _InvalidClientInput)):
            traceback.print_exc()
        if isinstance(problem, _InvalidClientRequest):
            self.log_error("(from %s) %s", self.client_address, problem.formatted_message)
        else:
            self.log_error("Invalid request (from %s): %s", self.client_address, str(problem) or type(problem).__name__)
        return "400", _BAD_REQUEST_RESPONSE

    def _send_error_response_if_possible(self, error_code):
        if self.response_length:
            # The client can only learn it from the connection's end.
            self.close_connection = True
            return
        status, headers, body = _ERRORS[error_code]
        try:
            self.start_response(status, headers[:])
            self.headers_sent = False
            self.response_use_chunked = False
            self.write(body)
        except OSError:
            self.close_connection = True

    # ---- the log ----

    def log_request(self):
        self.server.log.write(self.format_request() + "\n")

    def format_request(self):
        """A line for the log."""
        now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime())
        took = f"{self.time_finish - self.time_start:.6f}" if self.time_finish else "-"
        address = self.client_address
        if isinstance(address, tuple):
            address = address[0]
        status = self._orig_status or self.status or "000"
        if isinstance(status, bytes):
            status = status.decode("latin-1")
        return f'{address or "-"} - - [{now}] "{self.requestline or ""}" {status.split()[0]} ' + (
            f"{self.response_length or '-'} {took}"
        )


# ---- logs and environments ----


class _NoopLog:
    def write(self, *args, **kwargs):
        pass

    flush = writelines = write


class LoggingLogAdapter:
    """Makes a logger look like a file. Any other attribute is the logger's."""

    __slots__ = ("_logger", "_level")

    def __init__(self, logger, level=20):
        self._logger = logger
        self._level = level

    def write(self, msg):
        self._logger.log(self._level, msg.removesuffix("\n") if msg else msg)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        """A logger flushes itself."""

    def __getattr__(self, name):
        return getattr(self._logger, name)

    def __setattr__(self, name, value):
        if name in LoggingLogAdapter.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._logger, name, value)

    def __delattr__(self, name):
        delattr(self._logger, name)


class Environ(dict):
    """A base for environments: copies stay of their class, and a pickle is an ordinary dict."""

    __slots__ = ()

    def copy(self):
        return self.__class__(self)

    def iteritems(self):
        return self.items()

    def __reduce_ex__(self, proto):
        return (dict, (), None, None, iter(self.items()))


class SecureEnviron(Environ):
    """An environment whose text tells nothing: it has cookies and passwords, and would go into logs.

    secure_repr switches that off. Keys in whitelist_keys are shown; the others as <MASKED>, or, with
    print_masked_keys false, counted. The class has defaults for the three, named default_...
    """

    default_secure_repr = True
    default_whitelist_keys = ()
    default_print_masked_keys = True

    __slots__ = ("secure_repr", "whitelist_keys", "print_masked_keys")

    def __getattr__(self, name):
        if name in SecureEnviron.__slots__:
            return getattr(type(self), "default_" + name)
        raise AttributeError(name)

    def __repr__(self):
        if not self.secure_repr:
            return super().__repr__()
        shown = self.whitelist_keys
        if not shown:
            return f"<pywsgi.SecureEnviron dict (keys: {len(self)}) at {id(self)}>"
        masked = self.print_masked_keys
        visible = {
            key: value if key in shown else "<MASKED>" for key, value in self.items() if masked or key in shown
        }
        hidden = len(self) - len(visible)
        return f"{repr(visible)[:-1]}, (hidden keys: {hidden})}}" if hidden else repr(visible)

    __str__ = __repr__


class WSGISecureEnviron(SecureEnviron):
    """Shows where a request came from."""

    default_whitelist_keys = ("REMOTE_ADDR", "REMOTE_PORT", "HTTP_HOST")
    default_print_masked_keys = False


# ---- the server ----


def _software():
    # Programs look for "gevent" here, to know how to reach the socket of a request.
    from weald._alias import STANDS_FOR

    major, minor = STANDS_FOR["gevent"].split(".")[:2]
    return f"gevent/{major}.{minor} weald/{weald.weald_version} Python/{sys.version_info[0]}.{sys.version_info[1]}"


class WSGIServer(StreamServer):
    """Serves a WSGI application, with TLS if it is given any of StreamServer's arguments for that.

    log and error_log are files or loggers, by default stderr; None is none. environ is added to each request's.
    """

    handler_class = WSGIHandler
    application = None
    log = error_log = None
    environ_class = dict
    secure_environ_class = WSGISecureEnviron
    base_env = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": _software(),
        "SCRIPT_NAME": "",
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }

    def __init__(self, listener, application=None, backlog=None, spawn="default", log="default",
                 error_log="default", handler_class=None, environ=None, **ssl_args):  # fmt: skip
        if "handle" in ssl_args:
            import warnings

            warnings.warn(
                "Passing 'handle' kwarg to WSGIServer is deprecated. Did you mean application?",
                DeprecationWarning, stacklevel=2,
            )  # fmt: skip
        super().__init__(listener, backlog=backlog, spawn=spawn, **ssl_args)
        # Otherwise it is the class's.
        for name, given in ("application", application), ("handler_class", handler_class):
            if given is not None:
                setattr(self, name, given)
        self.log = _as_file(log, 20)
        self.error_log = _as_file(error_log, 40)
        self.set_environ(environ)
        self.set_max_accept()

    def set_environ(self, environ=None):
        """Makes the environment that each request's begins with."""
        if environ is not None:
            self.environ = environ
        more = getattr(self, "environ", None)
        self.environ = self.environ_class(self.base_env)
        self.environ["wsgi.url_scheme"] = "https" if self.ssl_enabled else "http"
        if more is not None:
            self.environ.update(more)
        if self.environ.get("wsgi.errors") is None:
            self.environ["wsgi.errors"] = self.error_log

    def set_max_accept(self):
        if self.environ.get("wsgi.multiprocess"):
            self.max_accept = 1

    def get_environ(self):
        """A fresh environment for a request."""
        return self.environ_class(self.environ)

    def init_socket(self):
        super().init_socket()
        self.update_environ()

    def update_environ(self):
        """Adds the server's name and port, which are known once the socket is bound."""
        name = port = ""
        if isinstance(self.address, tuple):
            name, port = self.address[0], str(self.address[1])
            if "SERVER_NAME" not in self.environ:
                from weald.socket import getfqdn

                try:
                    name = getfqdn(name)
                except OSError:
                    pass
        self.environ.setdefault("SERVER_NAME", str(name))
        self.environ.setdefault("SERVER_PORT", port)

    def handle(self, sock, address):
        """Handles a connection."""
        try:
            # What is written is whole: to wait for more would only delay it.
            sock.setsockopt(_stdlib_socket.IPPROTO_TCP, _stdlib_socket.TCP_NODELAY, 1)
        except OSError:
            # A socket of another kind.
            pass
        self.handler_class(sock, address, self).handle()


def _as_file(log, level):
    if log == "default":
        return sys.stderr
    if log is None:
        return _NoopLog()
    return LoggingLogAdapter(log, level) if hasattr(log, "log") and not hasattr(log, "write") else log


def _main():
    from weald import monkey

    monkey.patch_all()
    import argparse
    import importlib

    parser = argparse.ArgumentParser(description="Serves a WSGI application.")
    parser.add_argument("app", help="module:callable")
    parser.add_argument("-b", "--bind", default=":8080", help="where to listen, by default :8080")
    arguments = parser.parse_args()
    module, _, name = arguments.app.partition(":")
    WSGIServer(arguments.bind, getattr(importlib.import_module(module), name)).serve_forever()


if __name__ == "__main__":
    _main()
