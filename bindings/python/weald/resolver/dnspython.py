"""Asks name servers directly, by the package dnspython, with weald's sockets.

The package is imported a second time, in a copy that sees weald's modules in the place of the standard ones: so it
waits cooperatively in a program that patches nothing, and its settings are apart from those of the program's own copy.
"""
import _socket
import sys
from _socket import AF_INET, AF_INET6, AF_UNSPEC, EAI_FAMILY, EAI_NONAME, NI_NUMERICSERV, gaierror, herror

from weald._config import config
from weald.resolver import AbstractResolver
from weald.resolver._hostsfile import HostsFile

__all__ = ["Resolver"]


def _import_dns():
    from weald._patcher import import_patched

    # What dnspython imports when it first meets a kind of record; it must come from the same copy.
    wanted = {
        "dns": ("rdata", "resolver", "rdtypes"),
        "dns.rdtypes": ("IN", "ANY"),
        "dns.rdtypes.IN": ("A", "AAAA"),
        "dns.rdtypes.ANY": ("SOA", "PTR", "CNAME"),
    }

    def fill_caches(dns):
        for rdclass in list(dns.rdataclass.RdataClass):
            for rdtype in list(dns.rdatatype.RdataType):
                dns.rdata.get_rdata_class(rdclass, rdtype)

    return import_patched("dns", lambda name: wanted.get(name, ()), fill_caches).module


dns = _import_dns()
resolver = dns.resolver
_dns_getaddrinfo = resolver._getaddrinfo


def _getaddrinfo(host=None, service=None, family=AF_UNSPEC, socktype=0, proto=0, flags=0):
    if flags & (_socket.AI_ADDRCONFIG | _socket.AI_V4MAPPED):
        raise gaierror(_socket.EAI_SYSTEM)
    return _dns_getaddrinfo(host, service, family, socktype, proto, flags)


resolver._getaddrinfo = _getaddrinfo


class _Answer(dns.resolver.Answer):
    """An answer that no server gave."""

    def __init__(self, qname, rdtype, rdclass, rrset):
        self.response = None
        self.qname = self.canonical_name = qname
        self.rdtype, self.rdclass, self.rrset = rdtype, rdclass, rrset
        self.expiration = 0


class _Hosts:
    """Answers from /etc/hosts."""

    def __init__(self, fname=None):
        self.hosts_file = HostsFile(fname)

    def query(self, qname, rdtype):
        """An answer, or None."""
        hosts = self.hosts_file
        hosts.load()
        kinds = {
            dns.rdatatype.A: hosts.v4,
            dns.rdatatype.AAAA: hosts.v6,
            dns.rdatatype.PTR: hosts.reverse,
        }
        name = str(qname).lower()
        found = kinds[rdtype].get(name) or kinds[rdtype].get(name.rstrip("."))
        if not found:
            return None
        rdclass = dns.rdataclass.IN
        if rdtype == dns.rdatatype.PTR:
            record = dns.rdtypes.ANY.PTR.PTR(rdclass, rdtype, dns.name.from_text(found))
        else:
            module = dns.rdtypes.IN.A.A if rdtype == dns.rdatatype.A else dns.rdtypes.IN.AAAA.AAAA
            record = module(rdclass, rdtype, found)
        rrset = dns.rrset.RRset(qname, rdclass, rdtype)
        rrset.add(record)
        return _Answer(qname, rdtype, rdclass, rrset)

    def getaliases(self, hostname):
        """The other names on the host's line."""
        aliases = self.hosts_file.aliases
        first = aliases.get(hostname, hostname)
        names = [first, *(alias for alias, target in aliases.items() if target == first)]
        names.remove(hostname)
        return names


class _HostsThenNetwork:
    """Stands where dnspython keeps its resolver: the hosts file first, then the servers."""

    def __init__(self):
        self.hosts_resolver = _Hosts()
        self.network_resolver = resolver.get_default_resolver()
        self.network_resolver.cache = resolver.LRUCache()

    def resolve(self, qname, rdtype=dns.rdatatype.A, rdclass=dns.rdataclass.IN, *args, **kwargs):
        if qname is None:
            qname = "0.0.0.0"
        if isinstance(qname, bytes):
            qname = qname.decode("idna")
        if isinstance(qname, str):
            qname = dns.name.from_text(qname, None)
        if isinstance(rdtype, str):
            rdtype = dns.rdatatype.from_text(rdtype)
        if rdclass == dns.rdataclass.IN and rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.PTR):
            try:
                answer = self.hosts_resolver.query(qname, rdtype)
            except Exception:
                from weald.hub import get_hub

                get_hub().handle_error(self, *sys.exc_info())
            else:
                if answer is not None:
                    return answer
        kwargs.setdefault("search", True)
        return self.network_resolver.resolve(qname, rdtype, rdclass, *args, **kwargs)

    query = resolve

    def resolve_name(self, name, family=AF_UNSPEC, **kwargs):
        """Both kinds of addresses; dnspython's getaddrinfo asks so."""
        answers = {}
        for kind, rdtype in (AF_INET6, dns.rdatatype.AAAA), (AF_INET, dns.rdatatype.A):
            if family in (AF_UNSPEC, kind):
                try:
                    answers[rdtype] = self.resolve(name, rdtype)
                except dns.resolver.NoAnswer:
                    pass
        return resolver.HostAnswers.make(
            v6=answers.get(dns.rdatatype.AAAA), v4=answers.get(dns.rdatatype.A), add_empty=False
        )

    def resolve_address(self, address, *args, **kwargs):
        return self.resolve(dns.reversename.from_address(address), dns.rdatatype.PTR, *args, **kwargs)

    def __getattr__(self, name):
        if name == "network_resolver":
            raise AttributeError(name)
        return getattr(self.network_resolver, name)


class Resolver(AbstractResolver):
    """Looks names up by dnspython. `resolver` is its resolver object, with name servers, lifetime and cache."""

    def __init__(self, hub=None):
        # Hubs of several threads share one, and its cache.
        if not isinstance(resolver.default_resolver, _HostsThenNetwork):
            both = _HostsThenNetwork()
            if config.resolver_nameservers:
                both.network_resolver.nameservers = list(config.resolver_nameservers)
            if config.resolver_timeout:
                both.network_resolver.lifetime = config.resolver_timeout
            resolver.default_resolver = resolver._resolver = both
        self._resolver = resolver.default_resolver

    @property
    def resolver(self):
        return self._resolver.network_resolver

    def _getaliases(self, hostname, family):
        if isinstance(hostname, bytes):
            hostname = hostname.decode("idna")
        aliases = self._resolver.hosts_resolver.getaliases(hostname)
        if family not in (AF_INET, AF_INET6):
            raise gaierror(EAI_FAMILY, "Address family not supported")
        while True:
            try:
                answer = self.resolver.resolve(hostname, dns.rdatatype.CNAME, search=True)
            except dns.exception.DNSException:
                return aliases
            aliases.extend(str(record.target) for record in answer.rrset)
            hostname = answer[0].target

    def _getaddrinfo(self, host_bytes, port, family, socktype, proto, flags):
        host = host_bytes.decode(self.HOSTNAME_ENCODING)
        try:
            return _getaddrinfo(host, port, family, socktype, proto, flags)
        except gaierror as problem:
            if family == AF_UNSPEC:
                # One kind of address may exist without the other.
                try:
                    return _getaddrinfo(host, port, AF_INET6, socktype, proto, flags)
                except gaierror:
                    return _getaddrinfo(host, port, AF_INET, socktype, proto, flags)
            if problem.args[0] == EAI_NONAME and family not in self._KNOWN_ADDR_FAMILIES:
                problem.args = EAI_FAMILY, self.EAI_FAMILY_MSG
                problem.errno = EAI_FAMILY
            raise

    def _getnameinfo(self, address_bytes, port, sockaddr, flags):
        try:
            return resolver._getnameinfo(sockaddr, flags)
        except OSError:
            if flags:
                raise
            # A port without a name.
            return resolver._getnameinfo(sockaddr, NI_NUMERICSERV)

    def _gethostbyaddr(self, ip_address_bytes):
        try:
            return resolver._gethostbyaddr(ip_address_bytes.decode())
        except gaierror as problem:
            if problem.args[0] == EAI_NONAME:
                raise herror(1, "Unknown host") from None
            raise

    getaddrinfo, gethostbyname_ex, gethostbyaddr, getnameinfo = (
        AbstractResolver.fixup_gaierror(getattr(AbstractResolver, name))
        for name in ("getaddrinfo", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")
    )
