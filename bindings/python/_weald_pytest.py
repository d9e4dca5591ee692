"""The plugin for pytest: tests that run in a greenlet, have a time limit, and leave nothing behind.

    pytest --weald                  each test in a greenlet of its own
    --weald-timeout=SECONDS         how long a test may take; it is ended where it waits
    --weald-leaks=error|warn|off    whether greenlets, watchers and descriptors that a test leaves are an error

The same as settings in the ini file: weald = true, weald_timeout, weald_leaks. For one test, with or without --weald:

    @pytest.mark.weald(timeout=5, leaks="off")
    @pytest.mark.weald(False)       as without the plugin

Fixtures run in main, as ever, and may wait there; a test sees their context variables. A test that does not wait can
not be ended. What a fixture of a wider scope than the test makes is not the test's leak.

Every run of pytest loads this, so weald itself is imported by the first test that wants it.
"""
import contextvars
import os
import warnings

import pytest

LEAKS = ("error", "warn", "off")
#: Seconds that what a test has left may take to go by itself.
PATIENCE = 0.2
#: Descriptors that a loop opens.
OF_A_LOOP = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[timerfd]")


def _wrapper(**options):
    """pytest.hookimpl(wrapper=True); without it, before pytest 8, there are no hooks, and pytest_configure says so."""
    try:
        return pytest.hookimpl(wrapper=True, **options)
    except TypeError:
        return lambda function: None


class LeakWarning(pytest.PytestWarning):
    """A test has left something behind."""


def pytest_addoption(parser):
    group = parser.getgroup("weald")
    group.addoption("--weald", action="store_true", default=None, help="run each test in a greenlet of weald's")
    group.addoption("--weald-timeout", type=float, metavar="SECONDS", help="how long a test may take in its greenlet")
    group.addoption("--weald-leaks", choices=LEAKS, help="what greenlets, watchers and descriptors left by a test are")
    parser.addini("weald", "run each test in a greenlet of weald's", type="bool", default=False)
    parser.addini("weald_timeout", "how long a test may take in its greenlet, in seconds", default="")
    parser.addini("weald_leaks", "what is left by a test is: error, warn or off", default="error")


def pytest_configure(config):
    if pytest_runtest_call is None and (config.getoption("weald") or config.getini("weald")):
        raise pytest.UsageError("weald: this wants pytest 8 or newer")
    config.addinivalue_line(
        "markers",
        "weald(on=True, timeout=None, leaks=None): run the test in a greenlet, with a limit in seconds; leaks is "
        "error, warn or off.",
    )


class _Settings:
    """What holds for a test: its marker, else the command line, else the ini file."""

    def __init__(self, on=True, *, timeout=None, leaks=None):
        self.on, self.timeout, self.leaks = on, timeout, leaks
        if leaks is not None and leaks not in LEAKS:
            raise pytest.UsageError(f"weald: leaks is one of {', '.join(LEAKS)}, and not {leaks!r}")


def _settings(item):
    marker, config = item.get_closest_marker("weald"), item.config
    if marker is None:
        option = config.getoption("weald")
        found = _Settings(config.getini("weald") if option is None else option)
    else:
        try:
            found = _Settings(*marker.args, **marker.kwargs)
        except TypeError as error:
            raise pytest.UsageError(f"{item.nodeid}: {str(error).replace('_Settings.__init__', 'weald')}") from None
    if found.timeout is None:
        limit = config.getoption("weald_timeout")
        found.timeout = limit if limit is not None else float(config.getini("weald_timeout") or 0)
    found.leaks = found.leaks or config.getoption("weald_leaks") or config.getini("weald_leaks")
    return _Settings(found.on, timeout=found.timeout, leaks=found.leaks)


_settings_key = pytest.StashKey()
_before_key = pytest.StashKey()
#: of the run: the _Before of the test that runs now
_now_key = pytest.StashKey()


# ---- a greenlet for each test ----


def _run_in_greenlet(function, seconds):
    """Calls the function in a greenlet of its own, whose exception is raised here."""
    __tracebackhide__ = True
    import weald

    caught = []

    def body():
        __tracebackhide__ = True
        try:
            # Not an Exception: no test takes it for one of its own.
            limit = pytest.fail.Exception(f"the test has taken longer than {seconds} s", pytrace=True)
            with weald.Timeout(seconds or None, limit):
                function()
        except BaseException as error:
            caught.append(error)

    greenlet = weald.Greenlet(body)
    greenlet.gr_context = contextvars.copy_context()
    greenlet.start()
    try:
        greenlet.join()
    except weald.hub.LoopExit as error:
        # Nobody will end its wait: it is told there, where the traceback shows it.
        greenlet.kill(error)
    finally:
        if not greenlet.ready():
            greenlet.kill()
    if caught:
        try:
            raise caught[0]
        finally:
            caught.clear()


@_wrapper()
def pytest_runtest_call(item):
    settings = item.stash.get(_settings_key, None)
    if settings is None or not settings.on:
        return (yield)
    runtest = item.runtest

    def in_greenlet():
        __tracebackhide__ = True
        _run_in_greenlet(runtest, settings.timeout)

    item.runtest = in_greenlet
    try:
        return (yield)
    finally:
        del item.runtest


# ---- what a test leaves ----


def _descriptors():
    """number: what it is, of the descriptors that are open."""
    found = {}
    try:
        with os.scandir("/proc/self/fd") as entries:
            numbers = [int(entry.name) for entry in entries]
    except OSError:
        return found
    for number in numbers:
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            pass  # that of the directory itself
    return found


class _Before:
    """What there is before a test, and what is not its own."""

    def __init__(self):
        from weald import _core, get_hub

        hub = get_hub()
        hub.loop.fileno()  # opened when it is first needed
        self.workers = _workers(hub)
        self.greenlets, self.watchers = _core.greenlets(), _core.watchers()
        self.descriptors = _descriptors()

    def add(self, other, now):
        """Takes for given what has come between two moments."""
        self.greenlets += [one for one in now.greenlets if one not in other.greenlets]
        self.watchers += [one for one in now.watchers if one not in other.watchers]
        self.descriptors.update(now.descriptors.items() - other.descriptors.items())

    def gone_wrong(self):
        """(greenlets, watchers, descriptors) that have come since."""
        from weald import _core, get_hub

        hub = get_hub()
        greenlets, watchers = set(self.greenlets), set(self.watchers)
        descriptors = sorted(_descriptors().items() - self.descriptors.items())
        if _workers(hub) != self.workers:
            # The pool of threads stays with the hub, and its threads have loops of their own.
            watchers.update(one for one in _core.watchers() if _owner(one) is hub._threadpool)
            descriptors = [(number, what) for number, what in descriptors if what not in OF_A_LOOP]
        return (
            [one for one in _core.greenlets() if one not in greenlets],
            [one for one in _core.watchers() if one not in watchers],
            descriptors,
        )


def _workers(hub):
    pool = hub._threadpool
    return None if pool is None else (pool, pool.size)


def _owner(watcher):
    return getattr(watcher.callback, "__self__", None)


def _what_is_left(before):
    """The same as gone_wrong, of what does not go by itself or by a collection."""
    import gc
    import time

    import weald

    left = before.gone_wrong()
    end = time.monotonic() + PATIENCE
    pause = 0
    while any(left) and pause < PATIENCE:
        if pause:
            gc.collect()
        weald.sleep(pause)
        left = before.gone_wrong()
        if time.monotonic() > end:
            break
        pause = pause * 2 or 0.005
    return left


def _describe(greenlets, watchers, descriptors):
    import traceback

    lines = ["the test has left behind:"]
    for greenlet in greenlets:
        waits = greenlet._waits
        lines.append(f"  {greenlet!r}" + (f", which waits in {waits[0]}" if waits else ""))
        if waits and waits[1] is not None:
            lines[-1] += f" for {waits[1]!r}"
        if greenlet.gr_frame is not None:
            stack = "".join(traceback.format_stack(greenlet.gr_frame))
            lines += ["    " + line for line in stack.splitlines()]
    lines += [f"  {watcher!r}" for watcher in watchers]
    lines += [f"  descriptor {number}, {what}" for number, what in descriptors]
    return "\n".join(lines)


@_wrapper(tryfirst=True)
def pytest_runtest_setup(item):
    settings = item.stash[_settings_key] = _settings(item)
    if settings.on and settings.leaks != "off":
        item.config.stash[_now_key] = item.stash[_before_key] = _Before()
    return (yield)


@_wrapper()
def pytest_fixture_setup(fixturedef, request):
    before = request.config.stash.get(_now_key, None)
    if before is None or fixturedef.scope == "function":
        return (yield)
    then = _Before()
    try:
        return (yield)
    finally:
        before.add(then, _Before())


@_wrapper(tryfirst=True)
def pytest_runtest_teardown(item):
    __tracebackhide__ = True
    result = yield
    before = item.stash.get(_before_key, None)
    if before is None:
        return result
    del item.stash[_before_key], item.config.stash[_now_key]
    left = _what_is_left(before)
    if not any(left):
        return result
    text = _describe(*left)
    import weald

    # They would trouble the next test.
    weald.killall([one for one in left[0] if isinstance(one, weald.Greenlet)], timeout=1)
    for watcher in left[1]:
        watcher.stop()
    if item.stash[_settings_key].leaks == "warn":
        warnings.warn(LeakWarning(text), stacklevel=1)
    else:
        pytest.fail(text, pytrace=False)
    return result
