from collections.abc import Callable
from typing import Any

from weald.baseserver import BaseServer, _Address, _Spawner
from weald.socket import socket as _socket
from weald.ssl import SSLContext

__all__ = ["StreamServer", "DatagramServer"]

class StreamServer(BaseServer):
    backlog: int
    reuse_addr: int | None
    ssl_args: dict[str, Any] | None
    def __init__(
        self,
        listener: _Address | _socket,
        handle: Callable[[_socket, Any], Any] | None = ...,
        backlog: int | None = ...,
        spawn: _Spawner = ...,
        *,
        ssl_context: SSLContext = ...,
        keyfile: str = ...,
        certfile: str = ...,
        server_side: bool = ...,
        **ssl_args: Any,
    ) -> None: ...
    @property
    def ssl_enabled(self) -> bool: ...
    @classmethod
    def get_listener(cls, address: _Address, backlog: int | None = ..., family: int | None = ...) -> _socket: ...
    def do_close(self, sock: _socket, *args: Any) -> None: ...
    def wrap_socket_and_handle(self, client_socket: _socket, address: Any) -> Any: ...

class DatagramServer(BaseServer):
    reuse_addr: int | None
    def __init__(
        self, listener: _Address | _socket, handle: Callable[[bytes, Any], Any] | None = ..., spawn: _Spawner = ...
    ) -> None: ...
    @classmethod
    def get_listener(cls, address: _Address, family: int | None = ...) -> _socket: ...
    def sendto(self, data: bytes, address: Any, /) -> int: ...
