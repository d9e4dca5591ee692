"""Small helpers of gevent, under the names that others import."""
from functools import update_wrapper

from weald._names import take


class _Missing:
    __slots__ = ()

    def __repr__(self):
        return "<default value>"


_NONE = _Missing()


def copy_globals(source, globs, only_names=None, ignore_missing_names=False, names_to_ignore=(),
                 dunder_names_to_keep=("__implements__", "__all__", "__imports__"), cleanup_globs=True):
    """Copies names from a module into globals, and returns the names."""
    copied = take(source, globs, only_names, names_to_ignore)
    for name in dunder_names_to_keep:
        if only_names is None and hasattr(source, name) and name not in names_to_ignore:
            globs[name] = getattr(source, name)
            copied.append(name)
    if only_names is not None and not ignore_missing_names and len(copied) != len(only_names):
        raise AttributeError(f"{source.__name__} lacks {sorted(set(only_names) - set(copied))}")
    if cleanup_globs:
        globs.pop("copy_globals", None)
    return copied


class Lazy:
    """A property that is computed once and then kept in the instance."""

    def __init__(self, func):
        self._func = func
        update_wrapper(self, func)

    def __get__(self, instance, owner):
        if instance is None:
            return self
        value = vars(instance)[self._func.__name__] = self._func(instance)
        return value


class readproperty:
    """A property that is computed each time, until it is assigned to."""

    def __init__(self, func):
        self._func = func
        update_wrapper(self, func)

    def __get__(self, instance, owner):
        return self if instance is None else self._func(instance)


class LazyOnClass:
    """A property that is computed once and then kept in the class."""

    @classmethod
    def lazy(cls, namespace, func):
        namespace[func.__name__] = cls(func)

    def __init__(self, func, name=None):
        self.func = func
        self.name = name or func.__name__

    def __get__(self, instance, owner):
        if instance is None:
            return self
        value = self.func(instance)
        setattr(owner, self.name, value)
        return value


def gmctime():
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
