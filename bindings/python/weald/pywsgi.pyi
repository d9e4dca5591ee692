from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TypeAlias

from weald._wsgi_environ import Environ, LoggingLogAdapter, SecureEnviron, WSGISecureEnviron
from weald.baseserver import _Address, _Spawner
from weald.server import StreamServer
from weald.socket import socket as _socket

__all__ = ["WSGIServer", "WSGIHandler", "LoggingLogAdapter", "Environ", "SecureEnviron", "WSGISecureEnviron"]

_Application: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

class WSGIHandler:
    protocol_version: str
    socket: Any
    client_address: Any
    server: WSGIServer
    environ: dict[str, Any] | None
    application: _Application | None
    requestline: Any
    status: str | None
    response_headers: Any
    response_length: int
    headers_sent: bool
    close_connection: bool
    def __init__(self, sock: Any, address: Any, server: WSGIServer, rfile: Any = ...) -> None: ...
    def handle(self) -> None: ...
    def run_application(self) -> None: ...
    def get_environ(self) -> dict[str, Any]: ...
    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: tuple[type[BaseException], BaseException, TracebackType] | None = ...,
    ) -> Callable[[bytes], Any]: ...
    def write(self, data: bytes, /) -> Any: ...
    def log_error(self, msg: str, *args: Any) -> None: ...
    def log_request(self) -> None: ...
    def format_request(self) -> str: ...

class WSGIServer(StreamServer):
    handler_class: type[WSGIHandler]
    application: _Application | None
    log: Any
    error_log: Any
    environ_class: type[dict[Any, Any]]
    secure_environ_class: type[SecureEnviron]
    base_env: dict[str, Any]
    environ: dict[str, Any]
    def __init__(
        self,
        listener: _Address | _socket,
        application: _Application | None = ...,
        backlog: int | None = ...,
        spawn: _Spawner = ...,
        log: Any = ...,
        error_log: Any = ...,
        handler_class: type[WSGIHandler] | None = ...,
        environ: dict[str, Any] | None = ...,
        **ssl_args: Any,
    ) -> None: ...
    def set_environ(self, environ: dict[str, Any] | None = ...) -> None: ...
    def set_max_accept(self) -> None: ...
    def get_environ(self) -> dict[str, Any]: ...
    def update_environ(self) -> None: ...
