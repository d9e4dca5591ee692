"""Servers for TCP, with or without TLS, and for UDP."""
from _socket import AF_INET, AF_INET6, SO_REUSEADDR, SOCK_DGRAM, SOL_SOCKET

from weald import _core
from weald.baseserver import BaseServer
from weald.socket import _accepted, socket as GeventSocket

__all__ = ["StreamServer", "DatagramServer"]

DEFAULT_REUSE_ADDR = 1
_IP = (AF_INET, AF_INET6)  # of which the core makes addresses


def _bound(address, reuse_addr, family, **kind):
    sock = GeventSocket(family=family, **kind)
    try:
        if reuse_addr is not None:
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, reuse_addr)
        sock.bind(address)
    except BaseException as problem:
        sock.close()
        if isinstance(problem, OSError) and problem.strerror is not None:
            problem.strerror += f": {address!r}"
        raise
    return sock


def _tcp_listener(address, backlog=50, reuse_addr=None, family=AF_INET):
    """A socket that listens at the address."""
    sock = _bound(address, reuse_addr, family)
    sock.listen(backlog)
    sock.setblocking(0)
    return sock


def _udp_socket(address, backlog=50, reuse_addr=None, family=AF_INET):
    """A socket for datagrams, bound to the address."""
    return _bound(address, reuse_addr, family, type=SOCK_DGRAM)


class StreamServer(BaseServer):
    """Calls handle(socket, address) for each connection.

    With `ssl_context`, or any other argument of an SSLContext's wrap_socket, connections speak TLS; the handshake is
    made in the handler's greenlet. Such a context must be of weald.ssl, or the process patched.
    """

    backlog = 128
    reuse_addr = DEFAULT_REUSE_ADDR

    def __init__(self, listener, handle=None, backlog=None, spawn="default", **ssl_args):
        super().__init__(listener, handle=handle, spawn=spawn)
        try:
            self.ssl_args = ssl_args or None
            if ssl_args:
                ssl_args.setdefault("server_side", True)
                context = ssl_args.pop("ssl_context", None)
                if context is not None:
                    self.wrap_socket = context.wrap_socket
                else:
                    from weald.ssl import wrap_socket

                    self.wrap_socket = wrap_socket
            if backlog is not None:
                if hasattr(self, "socket"):
                    raise TypeError("backlog must be None when a socket instance is passed")
                self.backlog = backlog
        except BaseException:
            self.close()
            raise

    @property
    def ssl_enabled(self):
        return self.ssl_args is not None

    def init_socket(self):
        if not hasattr(self, "socket"):
            self.socket = self.get_listener(self.address, self.backlog, self.family)
            self.address = self.socket.getsockname()
        self._handle = self.wrap_socket_and_handle if self.ssl_args else self.handle
        # The watcher waits; so the raw socket does for accepting.
        while hasattr(self.socket, "_sock"):
            self.socket = self.socket._sock

    @classmethod
    def get_listener(cls, address, backlog=None, family=None):
        return _tcp_listener(
            address, backlog=cls.backlog if backlog is None else backlog, reuse_addr=cls.reuse_addr, family=family
        )

    def do_read(self):
        sock = self.socket
        if sock.family in _IP and sock.timeout == 0.0:
            found = _core.accept_now(sock.fileno())
            return found and (_accepted(found[0], sock.family, sock.type, sock.proto), found[1])
        try:
            fd, address = sock._accept()
        except BlockingIOError:
            # A socket with a timeout is somebody else's, and says so by other errors.
            if not sock.timeout:
                return None
            raise
        return GeventSocket(sock.family, sock.type, sock.proto, fileno=fd), address

    def do_close(self, sock, *args):
        sock.close()

    def wrap_socket_and_handle(self, client_socket, address):
        with self.wrap_socket(client_socket, **self.ssl_args) as wrapped:
            return self.handle(wrapped, address)


class DatagramServer(BaseServer):
    """Calls handle(data, address) for each datagram; `sendto` answers."""

    reuse_addr = DEFAULT_REUSE_ADDR

    def __init__(self, *args, **kwargs):
        from weald.lock import Semaphore

        # The raw socket.
        self._socket = None
        super().__init__(*args, **kwargs)
        self._writelock = Semaphore()

    def init_socket(self):
        if not hasattr(self, "socket"):
            self.socket = self.get_listener(self.address, self.family)
            self.address = self.socket.getsockname()
        self._socket = getattr(self.socket, "_sock", self.socket)

    @classmethod
    def get_listener(cls, address, family=None):
        return _udp_socket(address, reuse_addr=cls.reuse_addr, family=family)

    def do_read(self):
        try:
            return self._socket.recvfrom(65536)
        except BlockingIOError:
            return None

    def sendto(self, *args):
        with self._writelock:
            self.socket.sendto(*args)
