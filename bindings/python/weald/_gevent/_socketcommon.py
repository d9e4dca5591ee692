from weald import socket as _socket_module
from weald._wait import *  # noqa: F403
from weald.socket import *  # noqa: F403
from weald.socket import _resolve, get_hub, timeout_default  # noqa: F401
from weald.socket import __dns__, __extensions__, __imports__, __socket__  # noqa: F401

_implements = _socket_module.__implements__


def _resolve_addr(sock, address):
    return _resolve(sock, address)
