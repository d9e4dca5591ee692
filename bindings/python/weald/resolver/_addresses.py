"""Whether text is an address."""
import _socket


class AddressSyntaxError(ValueError):
    """It is not."""


def _is(family, host):
    if not host or not isinstance(host, (str, bytes, bytearray)):
        return False
    text = host if isinstance(host, str) else bytes(host).decode("latin-1")
    try:
        _socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def is_ipv4_addr(host):
    return _is(_socket.AF_INET, host)


def is_ipv6_addr(host):
    """A scope (%eth0) does not count."""
    if host and isinstance(host, (str, bytes, bytearray)):
        host = host.split("%" if isinstance(host, str) else b"%", 1)[0]
    return _is(_socket.AF_INET6, host)
