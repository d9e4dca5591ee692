"""Looking names up: `hub.resolver` is one of the classes in this package, chosen by `config.resolver`.

    thread      the system's own functions, in the hub's thread pool; the default
    dnspython   asks name servers directly, by the package dnspython
    ares        the same under gevent's other name
    blocking    the system's functions, here and now: blocks the loop
"""
import _socket
from _socket import AF_INET, AF_UNSPEC, AI_CANONNAME, AI_NUMERICHOST, AI_PASSIVE, EAI_NONAME, SOCK_DGRAM, SOCK_STREAM

__all__ = ()

hostname_types = (str, bytes, bytearray)
# The codec is loaded by an import, which must not come at the first look-up, perhaps within another import.
"weald".encode("idna")


class AbstractResolver:
    """What resolvers share that ask name servers themselves: what needs no server is answered by the system."""

    HOSTNAME_ENCODING = "idna"
    EAI_NONAME_MSG = "Name or service not known"
    EAI_FAMILY_MSG = "ai_family not supported"
    _LOCAL = (b"localhost", b"ip6-localhost", b"::1", b"127.0.0.1")
    _LOCAL_AND_BROADCAST = (*_LOCAL, b"255.255.255.255", b"<broadcast>")
    _KNOWN_ADDR_FAMILIES = {value for name, value in vars(_socket).items() if name.startswith("AF_")}

    def close(self):
        """Gives up what it holds."""

    @staticmethod
    def fixup_gaierror(func):
        """Adds the text that the system's error would have."""
        import functools

        @functools.wraps(func)
        def resolve(self, *args, **kwargs):
            try:
                return func(self, *args, **kwargs)
            except _socket.gaierror as problem:
                if problem.args[:1] == (EAI_NONAME,) and len(problem.args) == 1:
                    problem.args = EAI_NONAME, self.EAI_NONAME_MSG
                    problem.errno = EAI_NONAME
                raise

        return resolve

    def _hostname_to_bytes(self, hostname):
        if isinstance(hostname, str):
            return hostname.encode(self.HOSTNAME_ENCODING)
        if not isinstance(hostname, (bytes, bytearray)):
            raise TypeError(f"Expected str, bytes or bytearray, not {type(hostname).__name__}")
        return bytes(hostname)

    @staticmethod
    def _any_address(hostname, family):
        """An empty name is the address of all interfaces."""
        if not isinstance(hostname, hostname_types):
            raise TypeError(f"argument 1 must be str, bytes or bytearray, not {type(hostname)}")
        if hostname:
            return hostname
        found = _socket.getaddrinfo(None, 0, family, SOCK_DGRAM, 0, AI_PASSIVE)
        if len(found) != 1:
            raise OSError("wildcard resolved to multiple address")
        return found[0][4][0]

    def gethostbyname(self, hostname, family=AF_INET):
        hostname = self._hostname_to_bytes(hostname)
        if hostname in self._LOCAL_AND_BROADCAST:
            return _socket.gethostbyname(hostname.decode())
        return self.gethostbyname_ex(self._any_address(hostname, family), family)[-1][0]

    def gethostbyname_ex(self, hostname, family=AF_INET):
        hostname = self._hostname_to_bytes(hostname)
        if hostname in self._LOCAL_AND_BROADCAST:
            return _socket.gethostbyname_ex(hostname.decode())
        aliases = self._getaliases(hostname, family)
        found = self.getaddrinfo(hostname, 0, family, SOCK_STREAM, _socket.SOL_TCP, AI_CANONNAME)
        return found[0][3], aliases, [item[4][0] for item in found]

    def getaddrinfo(self, host, port, family=0, socktype=0, proto=0, flags=0):
        host = None if host is None else self._hostname_to_bytes(host)
        if host is None or flags & AI_NUMERICHOST or host in self._LOCAL or host.startswith(b"fe80:"):
            return _socket.getaddrinfo(host, port, family, socktype, proto, flags)
        return self._getaddrinfo(host, port, family, socktype, proto, flags)

    def gethostbyaddr(self, ip_address):
        ip_address = self._hostname_to_bytes(self._any_address(ip_address, AF_UNSPEC))
        if ip_address in self._LOCAL_AND_BROADCAST:
            return _socket.gethostbyaddr(ip_address.decode())
        return self._gethostbyaddr(ip_address)

    def getnameinfo(self, sockaddr, flags):
        if not isinstance(flags, int):
            raise TypeError("an integer is required")
        if not isinstance(sockaddr, tuple):
            raise TypeError("getnameinfo() argument 1 must be a tuple")
        address, port = self._hostname_to_bytes(sockaddr[0]), sockaddr[1]
        if address in self._LOCAL_AND_BROADCAST:
            return _socket.getnameinfo(sockaddr, flags)
        if not isinstance(port, int):
            raise TypeError(f"port must be an integer, not {type(port)}")
        if len(sockaddr) > 2 and sockaddr[2] > 0xFFFFF:
            raise OverflowError("getnameinfo(): flowinfo must be 0-1048575.")
        return self._getnameinfo(address, 0 if port >= 65536 else port, sockaddr, flags)

    # To be given by a subclass.
    def _getaliases(self, hostname, family):
        return []

    def _getaddrinfo(self, host_bytes, port, family, socktype, proto, flags):
        raise NotImplementedError

    def _gethostbyaddr(self, ip_address_bytes):
        raise NotImplementedError

    def _getnameinfo(self, address_bytes, port, sockaddr, flags):
        raise NotImplementedError
