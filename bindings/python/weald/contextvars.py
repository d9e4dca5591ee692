"""The standard module `contextvars`: each greenlet has a context of its own, so nothing needs another implementation."""
import contextvars as __contextvars__
from contextvars import Context, ContextVar, Token, copy_context

__implements__ = []
__all__ = ["Context", "ContextVar", "Token", "copy_context"]
__imports__ = __all__
