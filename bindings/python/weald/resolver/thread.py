"""The system's functions, called in the hub's thread pool. What needs no look-up is answered here."""
import _socket
from _socket import AF_INET, AF_INET6, AI_NUMERICHOST

from weald.hub import get_hub

__all__ = ["Resolver"]


def _is_numeric(host):
    """Whether the host is an address that the system reads without asking anybody."""
    if not isinstance(host, str):
        return False
    if ":" in host:
        family = AF_INET6
    elif host and host[-1].isdigit():
        family = AF_INET
    else:
        return False
    try:
        _socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def _in_thread(name):
    """A method that calls the system's function of that name in a thread."""

    def look_up(self, *args, **kwargs):
        return self.pool.apply(getattr(_socket, name), args, kwargs)

    look_up.__name__, look_up.__qualname__ = name, "Resolver." + name
    return look_up


class Resolver:
    """Looks names up in threads, exactly as the system does. An address takes no thread."""

    def __init__(self, hub=None):
        hub = get_hub() if hub is None else hub
        self.pool = hub.threadpool
        if _socket.gaierror not in hub.NOT_ERROR:
            # Whoever asked is told; that a name does not exist is no event for the log.
            hub.NOT_ERROR += (_socket.gaierror, _socket.herror)

    def __repr__(self):
        return f"<{type(self).__module__}.{type(self).__name__} at {id(self):#x} pool={self.pool!r}>"

    def close(self):
        pass

    gethostbyname, gethostbyname_ex, gethostbyaddr, getnameinfo = map(
        _in_thread, ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")
    )

    def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        if (host is None or flags & AI_NUMERICHOST or _is_numeric(host)) and (port is None or isinstance(port, int)):
            return _socket.getaddrinfo(host, port, family, type, proto, flags)
        return self.pool.apply(_socket.getaddrinfo, (host, port, family, type, proto, flags))
