"""A WSGI server for HTTP/1.1: `WSGIServer(("", 8000), application).serve_forever()`.

Requests are read and responses written by the library's HTTP server, in C, and so are its rules: what two readers might
understand differently is refused before an application sees it, a response has no line break that the application did
not mean, and small responses are one write. `WSGIHandler` is the part of it that programs change. A subclass is given
to the server as handler_class, and may override

    handle, handle_one_request, read_requestline, read_request, get_environ     what comes
    handle_one_response, run_application, process_result                        who answers
    start_response, finalize_headers, write                                     what goes
    handle_error, log_error, log_request, format_request                        what is told

Whatever it overrides is called as gevent calls it. A class that overrides none of them, or get_environ and the logging
alone, is served without a step of Python but for the application's.
"""
import errno
import io
import sys
import time
import traceback
from _socket import IPPROTO_TCP, TCP_NODELAY

import weald
from weald import _core
from weald._wsgi_environ import Environ, LoggingLogAdapter, SecureEnviron, WSGISecureEnviron, _NoopLog
from weald._wsgi_request import (  # noqa: F401
    MAX_REQUEST_LINE,
    Input,
    OldMessage,
    _ConnectionFile,
    _InvalidClientInput,
    headers_factory,
)
from weald.hub import GreenletExit
from weald.server import StreamServer
from weald.socket import socket as _Socket

__all__ = ["WSGIServer", "WSGIHandler", "LoggingLogAdapter", "Environ", "SecureEnviron", "WSGISecureEnviron"]

_ERRORS = {
    400: ("400 Bad Request", [("Content-Type", "text/plain"), ("Connection", "close"), ("Content-Length", "0")], b""),
    500: (
        "500 Internal Server Error",
        [("Content-Type", "text/plain"), ("Connection", "close"), ("Content-Length", "21")],
        b"Internal Server Error",
    ),
}
# By the names that handlers know.
_BAD_REQUEST_STATUS, _BAD_REQUEST_HEADERS, _BAD_REQUEST_BODY = _ERRORS[400]
_INTERNAL_ERROR_STATUS, _INTERNAL_ERROR_HEADERS, _INTERNAL_ERROR_BODY = _ERRORS[500]
_CONTINUE_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REQUEST_TOO_LONG_RESPONSE = b"HTTP/1.1 414 Request URI Too Long\r\nConnection: close\r\nContent-length: 0\r\n\r\n"
_BAD_REQUEST_RESPONSE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-length: 0\r\n\r\n"

# Why the library has refused something, by its status.
_REFUSALS = {
    400: "what came is no request", 408: "the head came too slowly", 413: "the body is too large",
    414: "the request line is too long", 417: "an expectation that is not known", 431: "the headers are too large",
    501: "what is asked for is not implemented", 505: "a version of HTTP that is not spoken here",
}  # fmt: skip


class _InvalidClientRequest(ValueError):
    """The head of a request is not what it should be."""

    def __init__(self, message):
        super().__init__(message)
        self.formatted_message = message


def format_date_time(timestamp):
    """The time as HTTP writes it, in bytes. Never in the user's language, as strftime would."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(timestamp)
    day_name = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[weekday]
    month_name = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")[month - 1]
    return f"{day_name}, {day:02} {month_name} {year:04} {hour:02}:{minute:02}:{second:02} GMT".encode()


# ---- the handler ----


class WSGIHandler(_core.Exchange):
    """Handles the requests of one connection."""

    protocol_version = "HTTP/1.1"
    ApplicationError = AssertionError
    ignored_socket_errors = (errno.EPIPE, errno.ECONNRESET)
    _print_unexpected_exc = staticmethod(traceback.print_exc)
    # Whether something of the class, or its applications, read or write `socket` themselves: then TLS is spoken by an
    # SSLSocket, and otherwise by the library where it can.
    uses_socket = True
    _given_file = _tls = None

    def __init__(self, sock, address, server, rfile=None):
        self.socket = sock
        self.client_address = address
        self.server = server
        if rfile is not None:
            self._given_file = rfile

    def MessageClass(self, *args):
        """Makes `headers` of the file that they come from."""
        return headers_factory(*args)

    # ---- the connection ----

    def handle(self):
        """Handles requests until the connection ends."""
        try:
            sock = self.socket
            plain = type(sock) is _Socket and self._given_file is None
            fd, source = (sock.fileno(), None) if plain else (-1, self._given_file or sock)
            by_steps = self._open(fd, source, self._tls)
            if by_steps is None:
                self.log_error("no TLS handshake with %s", self.client_address)
            elif by_steps:
                self._serve_by_steps()
            else:
                self._serve()
        finally:
            self._close()

    def _serve_by_steps(self):
        while self.socket is not None:
            self.time_start, self.time_finish = time.time(), 0
            outcome = self.handle_one_request()
            if outcome is True:
                continue
            if outcome is not None:
                self.status, response = outcome
                self._sendall(response)
                self.time_finish = self.time_finish or time.time()
                self.log_request()
            break

    def _close(self):
        self._hang_up()
        sock, file = self.socket, self._given_file
        for name in "socket", "rfile", "wsgi_input", "environ", "application":
            delattr(self, name)
        for part in sock, file:
            try:
                if part is not None:
                    part.close()
            except OSError:
                pass

    # ---- a request ----

    def handle_one_request(self):
        """Handles a request.

        Returns True if another may follow, None if the connection shall end, or (status, response) for an error.
        """
        if self.rfile.closed:
            return None
        try:
            line = self.read_requestline()
        except OSError:
            return None  # reset, or timed out, between two requests
        if not line:
            return None
        line = line.decode("latin-1") if isinstance(line, bytes) else line
        self.requestline = line.rstrip("\r\n")
        self.response_length = 0
        if len(line) > MAX_REQUEST_LINE:
            return "414", _REQUEST_TOO_LONG_RESPONSE
        try:
            if not self.read_request(line):
                return "400", _BAD_REQUEST_RESPONSE
            if not self._has_request:
                self._restate()
        except Exception as problem:
            answer = self._handle_client_error(problem)
            if not self._refused_with:
                return answer
            self._tell_refusal()
            return None
        self.environ = self.get_environ()
        self.application = self.server.application
        self.handle_one_response()
        return True if self.socket is not None and not self.rfile.closed and self._go_on() else None

    def read_requestline(self):
        """The first line of a request, as text."""
        return self._first_line(MAX_REQUEST_LINE + 2).decode("latin-1")

    def read_request(self, raw_requestline):
        """Reads the head of a request, whose first line this is. Raises ValueError if it is wrong."""
        line = raw_requestline if raw_requestline.endswith("\n") else raw_requestline + "\r\n"
        self._unread(line.encode("latin-1"))
        if not self._next():
            raise _InvalidClientRequest(f"Invalid request: {_REFUSALS.get(self._refused_with, 'it is cut short')}")
        if getattr(self.MessageClass, "__func__", None) is not WSGIHandler.MessageClass:
            self.headers = self.MessageClass(io.BytesIO(self._head(self._header_pairs())), 0)
        return True

    @staticmethod
    def _head(pairs):
        lines = [f"{name}: {value}\r\n" for name, value in pairs]
        return "".join([*lines, "\r\n"]).encode("latin-1")

    def _restate(self):
        """A subclass has read the request itself: tells the library what it has found."""
        names = "command", "path", "request_version", "headers", "requestline"
        found = {name: getattr(self, name) for name in names}
        line = f"{self.command} {self.path} {self.request_version}\r\n".encode("latin-1")
        self._unread(line + self._head(self.headers.items()))
        if not self._next():
            raise _InvalidClientRequest(f"Invalid request: {_REFUSALS.get(self._refused_with, 'it is cut short')}")
        for name, value in found.items():
            setattr(self, name, value)

    def _environ_from_headers(self, env):
        """Adds what self.headers has, which somebody may have changed; whether that asks for an upgrade."""
        for name, value in self.headers.items():
            if "_" in name:
                continue
            key = name.replace("-", "_").upper()
            value = value.strip()
            if key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                if value:
                    env[key] = value
                continue
            key = "HTTP_" + key
            if key in env:
                value = env[key] + ("; " if "COOKIE" in key else ",") + value
            env[key] = value
        return env.get("HTTP_CONNECTION", "").lower() == "upgrade" or env.get("HTTP_UPGRADE", "").lower() == "websocket"

    # ---- the response ----

    def handle_one_response(self):
        """Calls the application, and deals with what goes wrong."""
        self._new_response()
        self.time_start = time.time()
        try:
            self.run_application()
        except BaseException as problem:
            self._failed(problem)
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
                close = self.result = None

    def process_result(self):
        """Sends what the application returned."""
        if type(self).write is WSGIHandler.write:
            self._process()
            return
        for data in self.result:
            if data:
                self.write(data)
        if self.status and not self.headers_sent:
            self.write(b"")
        self._end()

    def finalize_headers(self):
        """Adds what the application left out, just before the headers are sent."""
        headers = self.response_headers
        if self.provided_date is None:
            headers.append((b"Date", format_date_time(time.time())))
        if self.code in (304, 204) or self.provided_content_length is not None:
            return
        if hasattr(self.result, "__len__"):
            headers.append((b"Content-Length", b"%d" % sum(map(len, self.result))))
        elif self.code != 101 and self.request_version == "HTTP/1.1":
            self.response_use_chunked = True
            headers.append((b"Transfer-Encoding", b"chunked"))

    def _sendall(self, data):
        """Writes to the connection, past the response."""
        self._raw_write(data)
        self.response_length += len(data)

    # ---- what goes wrong ----

    def _failed(self, problem):
        """The application, or the writing of what it gave, has raised."""
        if isinstance(problem, _InvalidClientInput):
            self._handle_client_error(problem)
            self.close_connection = True
            self._send_error_response_if_possible(400)
        elif isinstance(problem, OSError) and (self._broken or problem.args[:1] in _singles(self.ignored_socket_errors)):
            self.close_connection = True
        else:
            self.handle_error(type(problem), problem, problem.__traceback__)

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
            context = self.server.secure_environ_class(context or {})
        self.server.loop.handle_error(context, t, v, tb)

    def _send_error_response_if_possible(self, error_code):
        if self.response_length or self.headers_sent:
            # The client can only learn it from the connection's end.
            self.close_connection = True
            return
        status, headers, body = _ERRORS[error_code]
        try:
            self.start_response(status, headers[:])
            self.write(body)
            self._end()
        except OSError:
            self.close_connection = True

    def _handle_client_error(self, problem):
        """The client sent something wrong: says so in the error log, without a traceback, and what to answer."""
        if not isinstance(problem, (ValueError, _InvalidClientInput)):
            traceback.print_exc()
        if isinstance(problem, _InvalidClientRequest):
            self.log_error("(from %s) %s", self.client_address, problem.formatted_message)
        else:
            self.log_error("Invalid request (from %s): %s", self.client_address, str(problem) or type(problem).__name__)
        return "400", _BAD_REQUEST_RESPONSE

    def _refused(self):
        """The library has refused what came, and has answered it."""
        reason = _REFUSALS.get(self._refused_with, "it is cut short")
        self._handle_client_error(_InvalidClientRequest(f"Invalid request: {reason}"))
        self._tell_refusal()

    def _tell_refusal(self):
        self._new_response()
        self.status = str(self._refused_with)
        self.requestline = self.requestline or ""
        self.time_start = self.time_finish = time.time()
        self.log_request()

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

    # ---- the log ----

    def log_request(self):
        """Writes the line of a request to the server's log."""
        self.server.log.write(self.format_request() + "\n")


def _singles(values):
    return [(value,) for value in values]


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
    #: Seconds, None for any time: for a request's head from its first byte on; for a connection between two requests;
    #: for a body besides what 500 bytes a second give it; for each 64 KiB of a response.
    head_timeout = 10
    idle_timeout = 60
    body_timeout = 20
    write_timeout = 30

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
        if self.ssl_enabled and not self.handler_class.uses_socket:
            self._library_tls()  # files that are none are found now
        try:
            # Connections inherit it. What is written is whole: to wait for more would only delay it.
            self.socket.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        except (AttributeError, OSError):
            pass  # a socket of another kind
        self.update_environ()

    def wrap_socket_and_handle(self, client_socket, address):
        tls = None if self.handler_class.uses_socket else self._library_tls()
        if tls is None:
            super().wrap_socket_and_handle(client_socket, address)
            return
        handler = self.handler_class(client_socket, address, self)
        handler._tls = tls
        handler.handle()

    _tls = None

    def _library_tls(self):
        """What the library needs for TLS; None if more is asked for than a certificate and its key."""
        files = dict(self.ssl_args)
        files.pop("server_side", None)
        if self._tls is None and files.keys() == {"certfile", "keyfile"} and type(self).handle is WSGIServer.handle:
            self._tls = _core.tls_server(files["certfile"], files["keyfile"])
        return self._tls

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
        self.handler_class(sock, address, self).handle()


def _as_file(log, level):
    if log == "default":
        return sys.stderr
    if log is None:
        return _NoopLog()
    return LoggingLogAdapter(log, level) if hasattr(log, "log") and not hasattr(log, "write") else log


_core.wsgi_set_up(WSGIHandler, WSGIServer, OldMessage.of, _ConnectionFile, _InvalidClientInput, _NoopLog)


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
