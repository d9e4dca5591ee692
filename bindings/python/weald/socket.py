"""The standard module `socket`, where only the calling greenlet waits.

A `socket` here holds a non-blocking one of the interpreter (`_sock`). The calls of everyday go to the core, which tries
and waits in one step; the others are tried on the raw socket, and wait for the descriptor if the kernel has nothing
yet. The timeout is ours: the kernel's socket never blocks.
"""
import _socket
import io
import os
import socket as __socket__
import time
from errno import EAGAIN, EALREADY, EBADF, EINPROGRESS, EISCONN, EWOULDBLOCK

from weald import _core
from weald._names import take
from weald._wait import cancel_wait, cancel_wait_ex, close_fd, wait, wait_read, wait_readwrite, wait_write
from weald.exceptions import BlockingSwitchOutError, ConcurrentObjectUseError
from weald.hub import get_hub, sleep
from weald.timeout import Timeout

__dns__ = ["getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "getfqdn"]
__implements__ = ["create_connection", "socket", "SocketType", "fromfd", "socketpair"] + __dns__
__extensions__ = ["cancel_wait", "wait_read", "wait_write", "wait_readwrite"]
__imports__ = take(__socket__, globals(), [
    "error", "gaierror", "herror", "timeout", "htonl", "htons", "ntohl", "ntohs",
    "inet_aton", "inet_ntoa", "inet_pton", "inet_ntop", "gethostname", "sethostname", "getprotobyname",
    "getservbyname", "getservbyport", "getdefaulttimeout", "setdefaulttimeout", "AddressFamily", "SocketKind",
    "CMSG_LEN", "CMSG_SPACE", "dup", "close", "if_indextoname", "if_nameindex", "if_nametoindex", "create_server",
    "has_dualstack_ipv6", "recv_fds", "send_fds", "has_ipv6", "SocketIO",
])  # fmt: skip
for _name in __socket__.__all__:
    if isinstance(getattr(__socket__, _name), (int, str)) and _name not in __imports__:
        __imports__ += take(__socket__, globals(), [_name])
__imports__.remove("SocketIO")
del _name

timeout_default = object()
_GLOBAL_DEFAULT_TIMEOUT = __socket__._GLOBAL_DEFAULT_TIMEOUT
_RESOLVABLE = (_socket.AF_INET, _socket.AF_INET6) if _socket.has_ipv6 else (_socket.AF_INET,)
_MSG_DONTWAIT = getattr(_socket, "MSG_DONTWAIT", 0)
_SOCK_NONBLOCK = getattr(_socket, "SOCK_NONBLOCK", 0)
_READ, _WRITE = 1, 2
# By whether it is read and written.
_BUFFERED = {
    (True, False): io.BufferedReader,
    (False, True): io.BufferedWriter,
    (True, True): lambda raw, size: io.BufferedRWPair(raw, raw, size),
}
# A raw socket's, whatever its class.
_set_blocking, _fileno, _get_default_timeout = _socket.socket.setblocking, _socket.socket.fileno, _socket.getdefaulttimeout
# Takes the place of a descriptor that is closed: the kernel says EBADF for it.
_NO_FD = 0x7FFFFFFF


def _as_enum(value, kind):
    try:
        return kind(value)
    except ValueError:
        return value


# ---- the socket ----


class _RawSocket(_socket.socket):
    """The interpreter's socket, but one that can be referred to weakly: `ssl` wants that."""

    __slots__ = ("__weakref__",)


class _ClosedSocket:
    """Stands in `_sock` for a socket that was closed or detached."""

    __slots__ = ("family", "type", "proto", "_was")

    def __init__(self, family, type, proto, was):
        self.family, self.type, self.proto, self._was = family, type, proto, was

    def fileno(self):
        return -1

    def close(self):
        pass

    detach = fileno

    def __bool__(self):
        return False

    def _fail(self, *args, **kwargs):
        raise OSError(EBADF, "Bad file descriptor")

    send = recv = recv_into = sendto = recvfrom = recvfrom_into = getsockname = __getattr__ = _fail

    def __repr__(self):
        fd, closed = self._was
        return f"<socket object [closed proxy at {id(self):#x} fd={fd} {'closed' if closed else 'detached'}]>"


class socket(_core.SocketBase):
    """A socket like the standard one, whose waits suspend the calling greenlet alone."""

    # In the core: `timeout`, _fd, _sock, and _reader and _writer, which are watchers. Those are made for who asks for
    # them; while there is none, the core waits.
    __slots__ = ("_hub", "_io_refs", "_closed", "__weakref__")

    # SSLSocket makes another kind of raw socket.
    _gevent_sock_class = _RawSocket

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        self._closed = True  # what is half made has nothing to close
        self._io_refs = 0
        self._fd = _NO_FD
        self._hub = None
        if fileno is None:
            family = _socket.AF_INET if family == -1 else family
            type = _socket.SOCK_STREAM if type == -1 else type
            proto = 0 if proto == -1 else proto
            # The kernel makes it so: one system call less.
            sock = self._gevent_sock_class(family, type | _SOCK_NONBLOCK, proto, None)
        else:
            sock = self._gevent_sock_class(family, type, proto, fileno)
        if fileno is not None or not _SOCK_NONBLOCK:
            _set_blocking(sock, False)
        self._sock = sock
        self._fd = _fileno(sock)
        self._closed = False
        self.timeout = _get_default_timeout()

    # ---- waiting ----

    @property
    def hub(self):
        """The hub of the thread that first waited for the socket by a watcher."""
        if self._hub is None:
            self._hub = get_hub()
        return self._hub

    @property
    def _read_event(self):
        """The watcher for reading, made when it is first needed."""
        watcher = self._reader
        if watcher is None and self._sock:
            watcher = self._reader = self.hub.loop.io(self._sock.fileno(), _READ)
        return watcher

    @property
    def _write_event(self):
        watcher = self._writer
        if watcher is None and self._sock:
            watcher = self._writer = self.hub.loop.io(self._sock.fileno(), _WRITE)
        return watcher

    def _wait(self, watcher, timeout_exc=None):
        if watcher is None:
            raise ConcurrentObjectUseError("The socket has already been closed by another greenlet")
        seconds = self.timeout
        if seconds is None:
            wait(watcher, None, hub=self.hub)
        else:
            wait(watcher, seconds, TimeoutError("timed out") if timeout_exc is None else timeout_exc, self.hub)

    def _wait_read(self):
        if self._reader is None:
            _core.wait_read(self._fd, self.timeout)
        else:
            self._wait(self._reader)

    def _wait_write(self, timeout):
        if self._writer is None:
            _core.wait_write(self._fd, timeout)
        else:
            self._wait(self._writer)

    @property
    def ref(self):
        """Whether a wait for this socket keeps the loop running."""
        return self._read_event.ref or self._write_event.ref

    @ref.setter
    def ref(self, value):
        self._read_event.ref = value
        self._write_event.ref = value

    # ---- what it is ----

    # No __getattr__ that asks the raw socket: with it each look-up of a method goes through a slower slot, and makes a
    # bound method. So what the raw socket has is all written down here.

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        if not self._closed:
            self.close()

    def __repr__(self):
        try:
            text = repr(self._sock)
        except Exception as problem:
            text = f"<socket [{problem!r}]>"
        if not text.startswith("<socket object"):
            return text
        kind = self.__class__
        closed = " [closed]" if self._closed else ""
        return f"<{kind.__module__}.{kind.__name__}{closed} at {id(self):#x}{self._extra_repr()}{text[7:]}"

    def _extra_repr(self):
        return ""

    def __getstate__(self):
        raise TypeError("Cannot serialize socket object")

    @property
    def family(self):
        return _as_enum(self._sock.family, AddressFamily)

    @property
    def type(self):
        kind = self._sock.type
        return _as_enum(kind & ~_SOCK_NONBLOCK if self.timeout != 0.0 else kind, SocketKind)

    @property
    def proto(self):
        return self._sock.proto

    def fileno(self):
        return self._sock.fileno()

    def setsockopt(self, *args):
        return self._sock.setsockopt(*args)

    def getsockopt(self, *args):
        return self._sock.getsockopt(*args)

    def listen(self, *args):
        return self._sock.listen(*args)

    def bind(self, address):
        return self._sock.bind(address)

    def getpeername(self):
        return self._sock.getpeername()

    def getsockname(self):
        return self._sock.getsockname()

    def set_inheritable(self, inheritable):
        """Whether a program that is executed has the descriptor too."""
        os.set_inheritable(self.fileno(), inheritable)

    def get_inheritable(self):
        return os.get_inheritable(self.fileno())

    # ---- timeouts; settimeout and gettimeout are the core's ----

    def setblocking(self, flag):
        self.timeout = None if flag else 0.0

    def getblocking(self):
        return self.timeout != 0.0

    # ---- connecting and accepting ----

    def connect(self, address):
        """Connects; a host name is looked up cooperatively."""
        self._internal_connect(address)

    def connect_ex(self, address):
        """Connects, and returns an errno instead of raising it."""
        try:
            return self._internal_connect(address) or 0
        except TimeoutError as problem:
            # Ours has no errno; the kernel's own has.
            return problem.errno or EAGAIN
        except gaierror:
            raise
        except OSError as problem:
            if problem.errno:
                return problem.errno
            raise

    def _internal_connect(self, address):
        sock = self._sock
        if self.timeout == 0.0:
            return sock.connect(address)
        end = None if self.timeout is None else time.monotonic() + self.timeout
        # The look-up counts; only a Timeout can end that.
        with Timeout._start_new_or_dummy(self.timeout, TimeoutError("timed out")):
            address = _resolve(sock, address)
        while True:
            code = self.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
            if not code:
                code = self._sock.connect_ex(address)
                if not code or code == EISCONN:
                    return None
            left = None if end is None else max(0, end - time.monotonic())
            if code == EAGAIN and sock.family == _socket.AF_UNIX:
                # The listener's backlog is full, and no event tells when it is not.
                if left == 0:
                    raise TimeoutError("timed out")
                sleep(0.001)
            elif code in (EWOULDBLOCK, EINPROGRESS, EALREADY):
                self._wait_write(left)
            else:
                raise OSError(code, os.strerror(code))

    def _accept(self):
        return self._sock._accept()

    def accept(self):
        """Waits for a connection; returns a socket for it and the peer's address."""
        while True:
            try:
                fd, address = self._accept()
                break
            except BlockingIOError:
                if self.timeout == 0.0:
                    raise
            self._wait_read()
        raw = self._sock
        return socket(raw.family, raw.type & ~_SOCK_NONBLOCK, raw.proto, fileno=fd), address

    # ---- reading ----

    # recv and recv_into are the core's.

    def _in_hub(self, name, *args):
        """Calls a method of the raw socket; if that would have to wait, the core's exception is on its way already."""
        try:
            return getattr(self._sock, name)(*args)
        except BlockingIOError:
            pass
        raise BlockingSwitchOutError("Impossible to call blocking function in the event loop callback")

    def _read(self, name, *args):
        """Calls a method of the raw socket until it does not want to wait any more."""
        while True:
            try:
                return getattr(self._sock, name)(*args)
            except BlockingIOError:
                if self.timeout == 0.0:
                    raise
            self._wait_read()

    def recvfrom(self, *args):
        return self._read("recvfrom", *args)

    def recvfrom_into(self, *args):
        return self._read("recvfrom_into", *args)

    def recvmsg(self, *args):
        return self._read("recvmsg", *args)

    def recvmsg_into(self, buffers, *args):
        return self._read("recvmsg_into", buffers, *args)

    # ---- writing ----

    # send and sendall are the core's.

    def _sendall(self, data, flags):
        """Sends everything without the core, which can not wait, or not by the watcher."""
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else view
        left = view.nbytes
        seconds = self.timeout
        end = None if seconds is None else time.monotonic() + seconds
        remaining, first = seconds, True
        while left:
            if end is not None and remaining <= 0 and not first:
                raise TimeoutError("timed out")
            first = False
            sent = self.send(view, flags, timeout=remaining)
            left -= sent
            view = view[sent:]
            if end is not None:
                remaining = end - time.monotonic()

    def _write(self, name, timeout, *args):
        """Calls a method of the raw socket, and once more if it had to wait; then 0 is how much it sent."""
        try:
            return getattr(self._sock, name)(*args)
        except BlockingIOError:
            if timeout == 0.0:
                raise
        self._wait_write(timeout)
        try:
            return getattr(self._sock, name)(*args)
        except BlockingIOError:
            return 0

    def sendto(self, *args):
        return self._write("sendto", self.timeout, *args)

    def sendmsg(self, buffers, ancdata=(), flags=0, address=None):
        timeout = 0.0 if flags & _MSG_DONTWAIT else self.timeout
        return self._write("sendmsg", timeout, buffers, ancdata, flags, address)

    if hasattr(_socket.socket, "sendmsg_afalg"):

        def sendmsg_afalg(self, *args, **kwargs):
            return self._sock.sendmsg_afalg(*args, **kwargs)

    def sendfile(self, file, offset=0, count=None):
        """Sends a file opened in binary mode, from `offset`, at most `count` bytes; returns how many it sent."""
        self._check_sendfile_params(file, offset, count)
        if self.timeout == 0.0:
            raise ValueError("a non-blocking socket can not send a file")
        if offset:
            file.seek(offset)
        done = 0
        try:
            while count is None or done < count:
                rest = memoryview(file.read(8192 if count is None else min(8192, count - done)) or b"")
                if not rest:
                    break
                while rest:
                    sent = self.send(rest)
                    done, rest = done + sent, rest[sent:]
            return done
        finally:
            # What was read and not sent is read again.
            if done and hasattr(file, "seek"):
                file.seek(offset + done)

    _sendfile_use_send = sendfile

    def _sendfile_use_sendfile(self, file, offset=0, count=None):
        raise __socket__._GiveupOnSendfile()

    def _check_sendfile_params(self, file, offset, count):
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if not self.type & _socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is None:
            return
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")

    # ---- files, copies, the end ----

    def makefile(self, mode="r", buffering=None, *, encoding=None, errors=None, newline=None):
        """A file over this socket, as io.open gives one. The descriptor lives until both are closed."""
        if not set(mode) <= {"r", "w", "b"}:
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        writing = "w" in mode
        reading = "r" in mode or not writing
        binary = "b" in mode
        if buffering == 0 and not binary:
            raise ValueError("unbuffered streams must be binary")
        raw = SocketIO(self, ("r" if reading else "") + ("w" if writing else ""))
        self._io_refs += 1
        if buffering == 0:
            return raw
        if buffering is None or buffering < 0:
            buffering = io.DEFAULT_BUFFER_SIZE
        buffered = _BUFFERED[reading, writing](raw, buffering)
        if not binary:
            buffered = io.TextIOWrapper(buffered, encoding, errors, newline)
            buffered.mode = mode
        return buffered

    def _decref_socketios(self):
        if self._io_refs > 0:
            self._io_refs -= 1
        if self._closed:
            self.close()

    def dup(self):
        """Another socket for a copy of the descriptor."""
        raw = self._sock
        copy = self.__class__(raw.family, raw.type, raw.proto, fileno=os.dup(self.fileno()))
        copy.settimeout(self.gettimeout())
        return copy

    def shutdown(self, how):
        self._sock.shutdown(how)

    @property
    def closed(self):
        return self._closed

    def close(self):
        self._closed = True
        if self._io_refs <= 0:
            self._real_close()

    def _real_close(self):
        if self._sock:
            self._let_go(close=True)

    def detach(self):
        """Gives the descriptor away; the socket is closed from then on. Returns the descriptor.

        It blocks, unless the socket had a timeout: whoever takes it, multiprocessing for one, expects that.
        """
        self._closed = True
        sock = self._sock
        if sock:
            if self.timeout is None:
                _socket.socket.setblocking(sock, True)
            self._let_go(close=False)
        return sock.detach()

    def _let_go(self, close):
        sock, fd = self._sock, self._fd
        self._fd = _NO_FD
        self._sock = _ClosedSocket(sock.family, sock.type, sock.proto, (fd, close))
        watchers = self._reader, self._writer
        self._reader = self._writer = None
        if close and sock.fileno() == fd:
            if watchers == (None, None):
                _core.close_fd(sock.detach())
            else:
                close_fd(watchers, _core.close_fd, sock.detach())
        else:
            # Given away, or the raw socket was closed behind our back.
            _core.cancel_wait(fd)
            # The socket is held until nobody waits any more.
            close_fd(watchers, id, sock)


SocketType = socket


def _accepted(fd, family, type, proto):
    """The socket of a connection that _core.accept_now has taken: as socket(family, type, proto, fileno=fd), where the
    descriptor is known not to block. Without one it is closed."""
    try:
        sock = socket.__new__(socket)
        sock._sock = _RawSocket(family, type | _SOCK_NONBLOCK, proto, fd)
    except BaseException:
        os.close(fd)
        raise
    sock._fd = fd
    sock._closed = False
    sock._io_refs = 0
    sock._hub = None
    sock.timeout = _get_default_timeout()
    return sock


# ---- functions of the module ----


def fromfd(fd, family, type, proto=0):
    """A socket for a copy of the descriptor."""
    return socket(family, type, proto, os.dup(fd))


def socketpair(family=None, type=_socket.SOCK_STREAM, proto=0):
    """Two sockets that are connected with each other."""
    if family is None:
        family = _socket.AF_UNIX
    a, b = _socket.socketpair(family, type, proto)
    return socket(family, type, proto, a.detach()), socket(family, type, proto, b.detach())


if hasattr(__socket__, "_fallback_socketpair"):

    def _fallback_socketpair(family=_socket.AF_INET, type=_socket.SOCK_STREAM, proto=0):
        """A pair over the loopback, for systems without socketpair."""
        if family not in (_socket.AF_INET, _socket.AF_INET6):
            raise ValueError("Only AF_INET and AF_INET6 socket address families are supported")
        if type != _socket.SOCK_STREAM:
            raise ValueError("Only SOCK_STREAM socket type is supported")
        if proto != 0:
            raise ValueError("Only protocol zero is supported")
        with socket(family, type, proto) as listener:
            listener.bind(("127.0.0.1" if family == _socket.AF_INET else "::1", 0))
            listener.listen()
            client = socket(family, type, proto)
            try:
                client.connect(listener.getsockname()[:2])
                server, _ = listener.accept()
            except BaseException:
                client.close()
                raise
        try:
            if server.getsockname() != client.getpeername() or client.getsockname() != server.getpeername():
                raise ConnectionError("Unexpected peer connection")
        except BaseException:
            client.close()
            server.close()
            raise
        return server, client

    __implements__.append("_fallback_socketpair")


def create_connection(address, timeout=_GLOBAL_DEFAULT_TIMEOUT, source_address=None, *, all_errors=False):
    """Connects to (host, port), trying each address of the host in turn. Raises what the last one raised."""
    host, port = address
    errors = []
    for family, kind, proto, _, target in getaddrinfo(host, port, 0, _socket.SOCK_STREAM):
        sock = None
        try:
            sock = socket(family, kind, proto)
            if source_address:
                sock.bind(source_address)
            if timeout is not _GLOBAL_DEFAULT_TIMEOUT:
                sock.settimeout(timeout)
            sock.connect(target)
        except OSError as problem:
            if sock is not None:
                sock.close()
            if not all_errors:
                errors.clear()
            errors.append(problem)
        except BaseException:
            if sock is not None:
                sock.close()
            raise
        else:
            errors.clear()
            return sock
    try:
        if not errors:
            raise OSError("getaddrinfo returns an empty list")
        if not all_errors:
            raise errors[0]
        raise ExceptionGroup("create_connection failed", errors)  # noqa: F821, from 3.11
    finally:
        # An exception refers to this frame, and this frame to it.
        sock = None
        errors.clear()


# ---- names ----


def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    """Looks a host and a service up; see the standard function."""
    found = get_hub().resolver.getaddrinfo(host, port, family, type, proto, flags)
    return [
        (_as_enum(af, AddressFamily), _as_enum(kind, SocketKind), proto, canonical, address)
        for af, kind, proto, canonical, address in found
    ]


def gethostbyname(hostname):
    """The IPv4 address of a host, as text."""
    return get_hub().resolver.gethostbyname(hostname)


def gethostbyname_ex(hostname):
    """A host's true name, its aliases and its IPv4 addresses."""
    return get_hub().resolver.gethostbyname_ex(hostname)


def gethostbyaddr(ip_address):
    """The name, the aliases and the addresses of the host with an address."""
    return get_hub().resolver.gethostbyaddr(ip_address)


def getnameinfo(sockaddr, flags):
    """The names of the host and of the service at an address."""
    return get_hub().resolver.getnameinfo(sockaddr, flags)


def getfqdn(name=""):
    """The full name of a host, by default of this one: the first of its names that has a dot."""
    name = name.strip()
    if not name or name in ("0.0.0.0", "::"):
        name = gethostname()
    try:
        hostname, aliases, _ = gethostbyaddr(name)
    except OSError:
        return name
    for candidate in (hostname, *aliases):
        if (b"." if isinstance(candidate, bytes) else ".") in candidate:
            return candidate
    return hostname


def _resolve(sock, address):
    """The address with a numeric host: connect in the kernel must not look names up, since that would block."""
    if sock.family not in _RESOLVABLE or not isinstance(address, tuple):
        return address
    try:
        _socket.inet_pton(sock.family, address[0])
        return address
    except (OSError, TypeError, ValueError):
        pass
    # Without the port, as the kernel's caller does it: some systems want a type of socket beside a port.
    found = getaddrinfo(address[0], None, sock.family)[0][-1]
    return (found[0], address[1]) if len(found) == 2 else (found[0], address[1], *found[2:])


__all__ = [name for name in __implements__ if not name.startswith("_")] + __extensions__ + __imports__
