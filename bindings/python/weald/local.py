"""Attributes that each greenlet has for itself."""
from weald._core import local, local_dicts

__all__ = ["local"]


def all_local_dicts_for_greenlet(greenlet):
    """[((type, id), dict), ...]: what the greenlet has in local objects."""
    return local_dicts(greenlet)
