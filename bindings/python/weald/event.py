"""Event and AsyncResult."""
from weald._core import AbstractLinkable, AsyncResult, Event, _set_no_value  # noqa: F401

__all__ = ["Event", "AsyncResult"]


class _NoValue:
    """What AsyncResult._exception is before anything was set."""

    __slots__ = ()

    def __repr__(self):
        return "<nothing yet>"


_NONE = _NoValue()
_set_no_value(_NONE)
