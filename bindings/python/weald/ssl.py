"""The standard module `ssl`, over weald's sockets: a handshake, a read or a write waits for the descriptor.

The interpreter's context and TLS object are used as they are. The latter is given the raw socket, which never blocks,
and says whether it wants to read or to write.
"""
import ssl as __ssl__
import sys
from _socket import AF_INET, SHUT_WR, SO_TYPE, SOCK_STREAM, SOL_SOCKET
from errno import EINVAL, ENOTCONN
from ssl import (
    CERT_NONE,
    CERT_REQUIRED,
    SSL_ERROR_EOF,
    DER_cert_to_PEM_cert,
    SSLEOFError,
    SSLError,
    SSLWantReadError,
    SSLWantWriteError,
    SSLZeroReturnError,
)
from types import FunctionType
from weakref import ref

from weald._names import take
from weald.socket import create_connection, socket, timeout_default

_ssl = __ssl__._ssl

__implements__ = ["SSLContext", "SSLSocket", "get_server_certificate"]
__extra__ = []
# Gone from the standard module with 3.12; servers still ask for it here.
(__implements__ if hasattr(__ssl__, "wrap_socket") else __extra__).append("wrap_socket")
__imports__ = take(__ssl__, globals(), leave=[*__implements__, *__extra__, "socket", "create_connection"])
__all__ = __implements__ + [name for name in __imports__ if name != "namedtuple"] + __extra__

orig_SSLContext = __ssl__.SSLContext
_PROTOCOL = _ssl.PROTOCOL_TLS


def _anchor_setters(cls):
    """Lets the setters of the standard context be called where another class has its name.

    They look their class up as the global SSLContext, and go on with what is above it. Once that name means ours, which
    is below, they would come back to themselves without end; also in contexts that were made before. So they get globals
    in which the name stays what it is.
    """
    names = dict(vars(__ssl__), SSLContext=cls)
    for name, found in list(vars(cls).items()):
        if isinstance(found, property) and found.fset is not None:
            parts = (
                part and FunctionType(part.__code__, names, part.__name__, part.__defaults__, part.__closure__)
                for part in (found.fget, found.fset, found.fdel)
            )
            setattr(cls, name, property(*parts, found.__doc__))


_anchor_setters(orig_SSLContext)


class _RawSocket(socket._gevent_sock_class):
    """The raw socket of an SSLSocket: callbacks of the context are given this, and want that."""

    __slots__ = ("_sslsock",)


class _Callback:
    """A callback of the context, called with the SSLSocket."""

    __slots__ = ("user_function",)

    def __init__(self, user_function):
        self.user_function = user_function

    def __call__(self, conn, *args):
        return self.user_function(conn._sslsock(), *args)


def _wrapped(value):
    return _Callback(value) if value and callable(value) else value


def _unwrapped(value):
    return value.user_function if isinstance(value, _Callback) else value


class SSLContext(orig_SSLContext):
    """The standard context, whose sockets are weald's."""

    __slots__ = ()
    sslsocket_class = None  # set below

    def wrap_socket(self, sock, server_side=False, do_handshake_on_connect=True, suppress_ragged_eofs=True,
                    server_hostname=None, session=None):  # fmt: skip
        return self.sslsocket_class(
            sock=sock, server_side=server_side, do_handshake_on_connect=do_handshake_on_connect,
            suppress_ragged_eofs=suppress_ragged_eofs, server_hostname=server_hostname, _context=self,
            _session=session,
        )  # fmt: skip

    @property
    def sni_callback(self):
        return _unwrapped(super().sni_callback)

    @sni_callback.setter
    def sni_callback(self, value):
        super(orig_SSLContext, orig_SSLContext).sni_callback.__set__(self, _wrapped(value))

    @property
    def _msg_callback(self):
        return _unwrapped(super()._msg_callback)

    @_msg_callback.setter
    def _msg_callback(self, value):
        super(SSLContext, SSLContext)._msg_callback.__set__(self, _wrapped(value))


class SSLSocket(socket):
    """A TLS connection over a weald socket, like the standard one."""

    def __init__(self, sock=None, keyfile=None, certfile=None, server_side=False, cert_reqs=CERT_NONE,
                 ssl_version=_PROTOCOL, ca_certs=None, do_handshake_on_connect=True, family=AF_INET,
                 type=SOCK_STREAM, proto=0, fileno=None, suppress_ragged_eofs=True, npn_protocols=None,
                 ciphers=None, server_hostname=None, _session=None, _context=None):  # fmt: skip
        if _context is None:
            _context = _context_for(server_side, keyfile, certfile, cert_reqs, ssl_version, ca_certs, ciphers)
            self.keyfile, self.certfile, self.cert_reqs = keyfile or certfile, certfile, cert_reqs
            self.ssl_version, self.ca_certs, self.ciphers = ssl_version, ca_certs, ciphers
        self._context = _context
        if sock.getsockopt(SOL_SOCKET, SO_TYPE) != SOCK_STREAM:
            raise NotImplementedError("only stream sockets are supported")
        if server_side and server_hostname:
            raise ValueError("server_hostname can only be specified in client mode")
        if server_side and _session is not None:
            raise ValueError("session can only be specified in client mode")
        if _context.check_hostname and not server_hostname:
            raise ValueError("check_hostname requires server_hostname")
        self.server_side, self.server_hostname, self._session = server_side, server_hostname, _session
        self.suppress_ragged_eofs, self.do_handshake_on_connect = suppress_ragged_eofs, do_handshake_on_connect
        self._sslobj = None
        self._connected = False
        timeout = None
        if sock is not None:
            timeout = sock.gettimeout()
            super().__init__(family=sock.family, type=sock.type, proto=sock.proto, fileno=sock.fileno())
            # Only now: if this fails the caller still has a socket to close.
            sock.detach()
            self._sock.setblocking(False)
        elif fileno is not None:
            super().__init__(fileno=fileno)
        else:
            super().__init__(family=family, type=type, proto=proto)
        connected = self._is_connected()
        self.settimeout(timeout)
        self._connected = connected
        if not connected:
            return
        try:
            self._sslobj = self._new_sslobj(server_side, _session)
            if do_handshake_on_connect:
                if self.gettimeout() == 0.0:
                    raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
                self.do_handshake()
        except OSError:
            self.close()
            raise

    def _is_connected(self):
        try:
            self._sock.getpeername()
            return True
        except OSError as problem:
            if problem.errno != ENOTCONN:
                self.close()
                raise
        # A peer that is gone may have left data. They came without TLS, and must not pass for what came with it.
        try:
            left = self._sock.recv(1)
        except OSError as problem:
            if problem.errno not in (ENOTCONN, EINVAL) and not isinstance(problem, BlockingIOError):
                raise
            return False
        if left:
            reason = "Closed before TLS handshake with data in recv buffer."
            error = SSLError(ENOTCONN, reason)
            error.reason, error.library = reason, None
            self.close()
            raise error
        return False

    def _gevent_sock_class(self, family, type, proto, fileno):
        raw = _RawSocket(family, type, proto, fileno)
        raw._sslsock = ref(self)
        return raw

    def _new_sslobj(self, server_side, session):
        return self._context._wrap_socket(
            self._sock, server_side, self.server_hostname, owner=self._sock, session=session
        )

    def _extra_repr(self):
        return f" server={self.server_side}, cipher={self._sslobj.cipher() if self._sslobj is not None else ''!r}"

    # ---- what it knows ----

    @property
    def context(self):
        return self._context

    @context.setter
    def context(self, context):
        self._context = context
        self._sslobj.context = context

    @property
    def session(self):
        return None if self._sslobj is None else self._sslobj.session

    @session.setter
    def session(self, wanted):
        sslobj, self._session = self._sslobj, wanted
        if sslobj is not None:
            sslobj.session = wanted

    @property
    def session_reused(self):
        return None if self._sslobj is None else self._sslobj.session_reused

    def dup(self):
        raise NotImplementedError(f"Can't dup() {type(self).__name__} instances")

    def _checkClosed(self, msg=None):
        """For subclasses."""

    def _check_connected(self):
        if not self._connected:
            # Raises ENOTCONN, unless a connect that returned early is done by now.
            self.getpeername()

    def getpeercert(self, binary_form=False):
        self._checkClosed()
        self._check_connected()
        return self._sslobj.getpeercert(binary_form)

    def selected_npn_protocol(self):
        self._checkClosed()
        return None

    def selected_alpn_protocol(self):
        self._checkClosed()
        return None if self._sslobj is None else self._sslobj.selected_alpn_protocol()

    def shared_ciphers(self):
        return self._sslobj.shared_ciphers()

    def version(self):
        return None if self._sslobj is None else self._sslobj.version()

    def cipher(self):
        self._checkClosed()
        return None if self._sslobj is None else self._sslobj.cipher()

    def compression(self):
        self._checkClosed()
        return None if self._sslobj is None else self._sslobj.compression()

    def pending(self):
        self._checkClosed()
        return 0 if self._sslobj is None else self._sslobj.pending()

    def get_channel_binding(self, cb_type="tls-unique"):
        if self._sslobj is not None:
            return self._sslobj.get_channel_binding(cb_type)
        if cb_type not in __ssl__.CHANNEL_BINDING_TYPES:
            raise ValueError("Unsupported channel binding type")
        return None

    def verify_client_post_handshake(self):
        if self._sslobj is None:
            raise ValueError(f"No SSL wrapper around {self}")
        return self._sslobj.verify_client_post_handshake()

    if hasattr(__ssl__.SSLSocket, "get_verified_chain"):

        def get_verified_chain(self):
            chain = self._sslobj.get_verified_chain()
            return [cert.public_bytes(_ssl.ENCODING_DER) for cert in chain or ()]

        def get_unverified_chain(self):
            chain = self._sslobj.get_unverified_chain()
            return [cert.public_bytes(_ssl.ENCODING_DER) for cert in chain or ()]

    # ---- talking ----

    def _until_done(self, call, args, message):
        """Calls, and waits for what TLS wants, until the call is done."""
        while True:
            try:
                return call(*args)
            except SSLWantReadError:
                if self.timeout == 0.0:
                    raise
                writing = False
            except SSLWantWriteError:
                if self.timeout == 0.0:
                    raise
                writing = True
            self._wait(self._write_event if writing else self._read_event, TimeoutError(message))
            if self._sslobj is None:
                raise ValueError("SSL socket was closed while waiting")

    def do_handshake(self):
        """Makes the handshake."""
        self._check_connected()
        self._until_done(self._sslobj.do_handshake, (), "The handshake operation timed out")

    def read(self, nbytes=1024, buffer=None):
        """Reads up to nbytes; into the buffer, if one is given, and then returns how many."""
        self._checkClosed()
        if self._sslobj is None:
            raise ValueError("Read on closed or unwrapped SSL socket.")
        if nbytes == 0:
            return b"" if buffer is None else 0
        args = (nbytes,) if buffer is None else (nbytes, buffer)
        try:
            return self._until_done(self._sslobj.read, args, "The read operation timed out")
        except (SSLZeroReturnError, SSLEOFError) as problem:
            if not self.suppress_ragged_eofs or isinstance(problem, SSLEOFError) and problem.args[0] != SSL_ERROR_EOF:
                raise
            return b"" if buffer is None else 0

    def write(self, data):
        """Writes, and returns how many bytes."""
        self._checkClosed()
        if self._sslobj is None:
            raise ValueError("Write on closed or unwrapped SSL socket.")
        return self._until_done(self._sslobj.write, (data,), "The write operation timed out")

    def _no_flags(self, flags, name):
        if flags != 0:
            raise ValueError(f"non-zero flags not allowed in calls to {name}() on {type(self)}")

    def send(self, data, flags=0, timeout=timeout_default):
        self._checkClosed()
        if self._sslobj is None:
            return socket.send(self, data, flags, timeout)
        self._no_flags(flags, "send")
        try:
            return self._until_done(self._sslobj.write, (data,), "timed out")
        except (SSLWantReadError, SSLWantWriteError):
            return 0

    def sendall(self, data, flags=0):
        self._checkClosed()
        if self._sslobj is not None:
            self._no_flags(flags, "sendall")
        try:
            return self._sendall(data, flags)
        except TimeoutError:
            if self.timeout == 0.0:
                raise SSLWantWriteError("The operation did not complete (write)") from None
            raise

    def recv(self, buflen=1024, flags=0):
        self._checkClosed()
        if self._sslobj is None:
            return socket.recv(self, buflen, flags)
        self._no_flags(flags, "recv")
        return self.read(buflen)

    def recv_into(self, buffer, nbytes=None, flags=0):
        self._checkClosed()
        if nbytes is None:
            nbytes = 0 if buffer is None else memoryview(buffer).nbytes
            nbytes = nbytes or 1024
        if self._sslobj is None:
            return socket.recv_into(self, buffer, nbytes, flags)
        self._no_flags(flags, "recv_into")
        return self.read(nbytes, buffer)

    def _not_with_tls(self, name):
        self._checkClosed()
        if self._sslobj is not None:
            raise ValueError(f"{name} not allowed on instances of {type(self)}")

    def sendto(self, data, flags_or_addr, addr=None):
        self._not_with_tls("sendto")
        return socket.sendto(self, data, flags_or_addr, *(() if addr is None else (addr,)))

    def recvfrom(self, buflen=1024, flags=0):
        self._not_with_tls("recvfrom")
        return socket.recvfrom(self, buflen, flags)

    def recvfrom_into(self, buffer, nbytes=None, flags=0):
        self._not_with_tls("recvfrom_into")
        return socket.recvfrom_into(self, buffer, nbytes, flags)

    # Never, lest something goes out that is not encrypted.
    def sendmsg(self, *args, **kwargs):
        raise NotImplementedError(f"sendmsg not allowed on instances of {type(self)}")

    def recvmsg(self, *args, **kwargs):
        raise NotImplementedError(f"recvmsg not allowed on instances of {type(self)}")

    def recvmsg_into(self, *args, **kwargs):
        raise NotImplementedError(f"recvmsg_into not allowed on instances of {type(self)}")

    # ---- beginning and end ----

    def _real_connect(self, address, connect_ex):
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        if self._connected or self._sslobj is not None:
            raise ValueError("attempt to connect already-connected SSLSocket!")
        self._sslobj = self._new_sslobj(False, self._session)
        try:
            code = socket.connect_ex(self, address) if connect_ex else socket.connect(self, address)
            if not code:
                if self.do_handshake_on_connect:
                    self.do_handshake()
                self._connected = True
            return code
        except OSError:
            self._sslobj = None
            raise

    def connect(self, addr):
        """Connects, and makes the handshake."""
        self._real_connect(addr, False)

    def connect_ex(self, addr):
        """Connects, makes the handshake, and returns an errno instead of raising it."""
        return self._real_connect(addr, True)

    def accept(self):
        """Waits for a connection, and wraps it."""
        new, address = super().accept()
        try:
            wrapped = self._context.wrap_socket(
                new, do_handshake_on_connect=self.do_handshake_on_connect,
                suppress_ragged_eofs=self.suppress_ragged_eofs, server_side=True,
            )  # fmt: skip
        except BaseException:
            new.close()
            raise
        return wrapped, address

    def unwrap(self):
        """Ends TLS, and returns the socket, which goes on without: this same object."""
        if self._sslobj is None:
            raise ValueError(f"No SSL wrapper around {self}")
        try:
            self._until_done(self._sslobj.shutdown, (), "timed out")
        except (SSLEOFError, SSLZeroReturnError):
            # The peer did not wait for ours.
            pass
        except OSError as problem:
            if problem.errno != 0 or isinstance(problem, (SSLWantReadError, SSLWantWriteError)):
                raise
        self._sslobj = None
        return self

    def _end(self):
        """Says that no more will be written, and waits for nothing; reading goes on."""
        if self._sslobj is None:
            raise ValueError(f"No SSL wrapper around {self}")
        try:
            self._sslobj.shutdown()
        except OSError:
            pass  # above all: the peer has not said so yet
        self._sock.shutdown(SHUT_WR)

    def shutdown(self, how):
        """Shuts the connection down below TLS; the peer is not told by TLS."""
        self._checkClosed()
        self._sslobj = None
        super().shutdown(how)

    def _real_close(self):
        self._sslobj = None
        socket._real_close(self)


SSLContext.sslsocket_class = SSLSocket


def _context_for(server_side, keyfile, certfile, cert_reqs, ssl_version, ca_certs, ciphers):
    if server_side and not certfile:
        raise ValueError("certfile must be specified for server-side operations")
    if keyfile and not certfile:
        raise ValueError("certfile must be specified")
    context = SSLContext(ssl_version)
    context.verify_mode = cert_reqs
    if ca_certs:
        context.load_verify_locations(ca_certs)
    if certfile:
        context.load_cert_chain(certfile, keyfile or certfile)
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def wrap_socket(sock, keyfile=None, certfile=None, server_side=False, cert_reqs=CERT_NONE, ssl_version=_PROTOCOL,
                ca_certs=None, do_handshake_on_connect=True, suppress_ragged_eofs=True, ciphers=None):  # fmt: skip
    """Wraps a connected socket, with a context made of the arguments."""
    return SSLSocket(
        sock=sock, keyfile=keyfile, certfile=certfile, server_side=server_side, cert_reqs=cert_reqs,
        ssl_version=ssl_version, ca_certs=ca_certs, do_handshake_on_connect=do_handshake_on_connect,
        suppress_ragged_eofs=suppress_ragged_eofs, ciphers=ciphers,
    )  # fmt: skip


def get_server_certificate(addr, ssl_version=_PROTOCOL, ca_certs=None, timeout=None):
    """The certificate of the server at an address, as PEM text."""
    cert_reqs = CERT_NONE if ca_certs is None else CERT_REQUIRED
    with create_connection(addr, **({} if timeout is None else {"timeout": timeout})) as sock:
        with wrap_socket(sock, ssl_version=ssl_version, cert_reqs=cert_reqs, ca_certs=ca_certs) as wrapped:
            return DER_cert_to_PEM_cert(wrapped.getpeercert(True))


# Where this module was imported first, and its twin waited for that to be patched.
if "weald.monkey" in sys.modules:
    sys.modules["weald.monkey"]._complete("ssl")
