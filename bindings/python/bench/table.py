"""The table of rows, which rows.py and servers.py fill, and what the work of a row needs."""
import time
from collections import namedtuple

ROWS = {}
Row = namedtuple("Row", "work target unit beside service")


class Skipped(Exception):
    """Somebody can not be had; says who, and why."""


def row(name, target, unit="ns", beside=(), service=None):
    """A row; weald may take `target` of what gevent takes. `beside` are peers that are shown, and `service` is a server
    of tests/support.py, whose port is in WEALD_BENCH_PORT. The function gets the name of whose figure is wanted."""

    def register(work):
        ROWS[name] = Row(work, target, unit, beside, service)
        return work

    return register


def cpu(work, operations):
    """Nanoseconds of CPU time for each operation; the least of three."""
    best = None
    for _ in range(3):
        begin = time.process_time()
        work()
        used = (time.process_time() - begin) / operations * 1e9
        best = used if best is None else min(best, used)
    return best
