"""Names by which gevent bridged versions of Python."""
import _imp
import os
import sys
from abc import ABC  # noqa: F401
from os import PathLike, fsdecode, fsencode, fspath  # noqa: F401
from time import get_clock_info, monotonic, perf_counter  # noqa: F401

PY311, PY312, PY313, PY314 = (sys.version_info[:2] >= (3, minor) for minor in (11, 12, 13, 14))
PYPY = hasattr(sys, "pypy_version_info")
WIN = sys.platform.startswith("win")
LINUX = sys.platform.startswith("linux")
OSX = MAC = sys.platform == "darwin"
PURE_PYTHON = GLOBAL_PURE_PYTHON = bool(os.environ.get("PURE_PYTHON") or os.environ.get("GEVENT_PURE_PYTHON"))

text_type, string_types, integer_types = str, (str,), (int,)
native_path_types = (str, bytes)
hostname_types = (str, bytes, bytearray)
thread_mod_name = "_thread"
iteritems = dict.items
itervalues = dict.values
xrange = range
izip = zip
_fspath = fspath
imp_acquire_lock = _imp.acquire_lock
imp_release_lock = _imp.release_lock


def NativeStrIO():
    import io

    return io.StringIO()


def pure_python_module(name):
    return PURE_PYTHON


def reraise(kind, value, tb=None):
    raise value.with_traceback(tb) if value.__traceback__ is not tb else value


def exc_clear():
    """Nothing is kept that would have to be cleared."""


def get_this_psutil_process():
    """This process as psutil sees it, or None if there is no psutil, or it may not look."""
    from weald._monitor import _this_process

    return _this_process()
