"""Exceptions that can be pickled with their tracebacks, for who hands them to another process."""
import sys
from types import FunctionType, TracebackType

_probe = lambda: _getframe()  # noqa: E731  (on one line: its frame is given any line)
_getframe = sys._getframe


def _anywhere():
    """From 3.11 on code says where in its line it is, and a traceback would mark that; this has it say nothing."""
    if sys.version_info < (3, 11):
        return {}
    # The table of locations: for up to eight instructions at a time, "no columns", and no more lines.
    left, table = len(_probe.__code__.co_code) // 2, bytearray()
    while left > 0:
        table += bytes((0x80 | 13 << 3 | min(left, 8) - 1, 0))
        left -= 8
    return {"co_linetable": bytes(table)}


_ANYWHERE = _anywhere()


class Unpicklable(Exception):
    """Stands for an exception that could not be pickled: its text, after the name of its class."""


def _frame(filename, name, line):
    """A frame that says it is of that function in that file."""
    code = _probe.__code__.replace(co_filename=filename, co_name=name, co_firstlineno=line, **_ANYWHERE)
    if _ANYWHERE:
        code = code.replace(co_qualname=name)
    return FunctionType(code, {"__name__": name, "__file__": filename, "_getframe": _getframe})()


def dump_traceback(tb):
    """What of a traceback is shown: (file, function, line) for each frame, the outermost first."""
    entries = []
    while tb is not None:
        code = tb.tb_frame.f_code
        entries.append((code.co_filename, code.co_name, tb.tb_lineno))
        tb = tb.tb_next
    return entries


def load_traceback(entries):
    """A traceback that is shown as the one that was dumped; its frames have no variables."""
    tb = None
    for filename, name, line in reversed(entries):
        tb = TracebackType(tb, _frame(filename, name, line), 0, line)
    return tb


class Failure:
    """An exception, as `exception`, with its traceback, its causes and their tracebacks, that can be pickled.

        send(pickle.dumps(Failure(greenlet.exception)))
        pickle.loads(data).reraise()    # in another process: shown as if it had been raised there

    An exception that can not be pickled arrives as an Unpicklable with its text.
    """

    def __init__(self, exception):
        if not isinstance(exception, BaseException):
            raise TypeError(f"a Failure is made of an exception, not of {exception!r}")
        self.exception = exception

    def __repr__(self):
        return f"<Failure {self.exception!r}>"

    def reraise(self):
        """Raises the exception."""
        raise self.exception

    def __reduce__(self):
        chain, seen, left = [], {}, [self.exception]
        while left:
            error = left.pop()
            if error is None or id(error) in seen:
                continue
            seen[id(error)] = len(chain)
            chain.append(error)
            left += [error.__context__, error.__cause__]
        return _load, ([
            (
                _dump(error), dump_traceback(error.__traceback__), seen.get(id(error.__cause__)),
                seen.get(id(error.__context__)), error.__suppress_context__,
            )
            for error in chain
        ],)  # fmt: skip


def _dump(error):
    import pickle  # it takes a while, and most programs never need it

    try:
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    except Exception:
        return f"{type(error).__name__}: {error}"


def _load(chain):
    import pickle

    errors = [Unpicklable(data) if isinstance(data, str) else pickle.loads(data) for data, *_ in chain]
    for error, (_, entries, cause, context, suppress) in zip(errors, chain):
        error.__traceback__ = load_traceback(entries)
        error.__cause__ = None if cause is None else errors[cause]
        error.__context__ = None if context is None else errors[context]
        error.__suppress_context__ = suppress
    return Failure(errors[0])
