from typing import Any

from weald.baseserver import _Address
from weald.server import StreamServer
from weald.socket import socket as _socket

__all__ = ["BackdoorServer"]

class BackdoorServer(StreamServer):
    locals: dict[str, Any]
    banner: str | None
    def __init__(
        self,
        listener: _Address | _socket,
        locals: dict[str, Any] | None = ...,
        banner: str | None = ...,
        **server_args: Any,
    ) -> None: ...
