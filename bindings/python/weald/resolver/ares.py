"""The resolver that gevent calls ares. There is no c-ares here: it is the one of dnspython."""
from weald.resolver.dnspython import Resolver

__all__ = ["Resolver"]
