"""The system's functions, called here and now. While one looks a name up, nothing else runs in the thread."""
import _socket

__all__ = ["Resolver"]


class Resolver:
    """Looks names up at once; for debugging, or where a local cache answers at once."""

    def __init__(self, hub=None):
        pass

    def close(self):
        pass

    gethostbyname = staticmethod(_socket.gethostbyname)
    gethostbyname_ex = staticmethod(_socket.gethostbyname_ex)
    getaddrinfo = staticmethod(_socket.getaddrinfo)
    gethostbyaddr = staticmethod(_socket.gethostbyaddr)
    getnameinfo = staticmethod(_socket.getnameinfo)
