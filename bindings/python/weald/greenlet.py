"""Greenlets: the raw ones, which are switched by hand, and Greenlet, which the hub runs.

The raw layer has the names and the behaviour of the package `greenlet`; `Greenlet`, `joinall` and `killall` are those of
gevent's module of this name. Both kinds are greenlets of libweald.
"""
import sys

from weald import _core
from weald._core import (
    Greenlet, GreenletExit, Timeout, _extend, _joinall, error, getcurrent, gettrace, greenlet, settrace,
)  # fmt: skip
from weald.hub import iwait, wait

__all__ = ["Greenlet", "joinall", "killall"]
__version__ = "3.5.6"

# What programs ask of the package `greenlet`.
GREENLET_USE_GC = True
GREENLET_USE_TRACING = True
GREENLET_USE_CONTEXT_VARS = True
GREENLET_USE_STANDARD_THREADING = True
CLOCKS_PER_SEC = 1000000
UnswitchableGreenlet = greenlet
if sys.version_info < (3, 13):
    from weald._core import get_tstate_trash_delete_nesting  # noqa: F401
_C_API = None


def get_total_main_greenlets():
    return 1


def get_pending_cleanup_count():
    return 0


def get_clocks_used_doing_optional_cleanup():
    return 0


def enable_optional_cleanup(on):
    return True


def set_thread_local(key, value):
    import _thread  # noqa: F401


# ---- what of Greenlet is not hot ----


class _Frame:
    """A frame of a stack that is gone: what a traceback needs of it."""

    __slots__ = ("f_code", "f_lineno", "f_back")
    f_globals = None

    def __init__(self, code, lineno, back):
        self.f_code, self.f_lineno, self.f_back = code, lineno, back


def _line_of(code, instruction):
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def _spawning_stack(self):
    """Where it was made, as frames."""
    flat = self._spawning_stack
    frame = None
    if flat:
        for i in range(len(flat) - 2, -1, -2):
            frame = _Frame(flat[i], _line_of(flat[i], flat[i + 1]), frame)
    return frame


class _Readable:
    """A property that gives way to an attribute of the instance."""

    def __init__(self, get):
        self._get = get
        self.__doc__ = get.__doc__

    def __get__(self, instance, owner):
        return self if instance is None else self._get(instance)


def _minimal_ident(self):
    """A small number that no other living greenlet of its hub has."""
    if self._ident is None:
        self._ident = self.parent.ident_registry.get_ident(self)
    return self._ident


def _name(self):
    """Its name: "Greenlet-" and its minimal_ident, unless it was given another."""
    return f"Greenlet-{self.minimal_ident}"


def _loop(self):
    """The loop of its hub."""
    return self.parent.loop


def _kwargs(self):
    """The keyword arguments, until it has ended."""
    kwargs = self._kwargs
    if kwargs is None:
        kwargs = self._kwargs = {}
    return kwargs


def _set_kwargs(self, kwargs):
    self._kwargs = kwargs


def _formatinfo(self):
    known = self.__dict__.get("_formatted_info")
    if known is not None:
        return known
    function = self._run
    owner = getattr(function, "__self__", None)
    if owner is self:
        name = "_run"
    elif owner is not None:
        name = repr(function)
    else:
        name = getattr(function, "__name__", "") or repr(function)
    arguments = [repr(x)[:50] for x in self.args or ()]
    arguments += [f"{key}={value!r}"[: len(key) + 51] for key, value in (self._kwargs or {}).items()]
    if arguments:
        name += f"({', '.join(arguments)})"
    self._formatted_info = name
    return name


def _repr(self):
    name = f' "{self.name}" ' if "name" in self.__dict__ or self._ident is not None else " "
    info = self._formatinfo()
    return f"<{type(self).__name__}{name}at {id(self):#x}{': ' + info if info else ''}>"


class SpawnedLink:
    """A callback that is called in a greenlet of its own."""

    __slots__ = ("callback",)

    def __init__(self, callback):
        if not callable(callback):
            raise TypeError(f"Expected callable: {callback!r}")
        self.callback = callback

    def __call__(self, source):
        greenlet(self.callback, _core.get_hub()).switch(source)

    def __hash__(self):
        return hash(self.callback)

    def __eq__(self, other):
        return self.callback == getattr(other, "callback", other)

    def __repr__(self):
        return repr(self.callback)

    def __str__(self):
        return str(self.callback)

    def __getattr__(self, name):
        return getattr(object.__getattribute__(self, "callback"), name)


class SuccessSpawnedLink(SpawnedLink):
    __slots__ = ()

    def __call__(self, source):
        if source.successful():
            SpawnedLink.__call__(self, source)


class FailureSpawnedLink(SpawnedLink):
    __slots__ = ()

    def __call__(self, source):
        if not source.successful():
            SpawnedLink.__call__(self, source)


def _link(self, callback, SpawnedLink=SpawnedLink):
    """Has callback(self) called in a greenlet of its own when this one has ended."""
    self.rawlink(SpawnedLink(callback))


def _link_value(self, callback, SpawnedLink=SuccessSpawnedLink):
    """As link, but only if it ended well."""
    self.link(callback, SpawnedLink=SpawnedLink)


def _link_exception(self, callback, SpawnedLink=FailureSpawnedLink):
    """As link, but only if it raised an exception."""
    self.link(callback, SpawnedLink=SpawnedLink)


def _exit(self, kind, value, traceback):
    if kind is None:
        try:
            self.join()
        finally:
            self.kill()
    else:
        self.kill((kind, value, traceback))


_callbacks = None


def _add_spawn_callback(callback):
    """Has callback(greenlet) called for each Greenlet that is started."""
    global _callbacks
    if _callbacks is None:
        _callbacks = []
    if callback not in _callbacks:
        _callbacks.append(callback)
    _core._set_spawn_callbacks(_callbacks)


def _remove_spawn_callback(callback):
    """Undoes add_spawn_callback."""
    global _callbacks
    if _callbacks and callback in _callbacks:
        _callbacks.remove(callback)
    if not _callbacks:
        _callbacks = None
    _core._set_spawn_callbacks(_callbacks)


for _attribute, _value in {
    "spawning_stack": _Readable(_spawning_stack),
    "spawning_stack_limit": 10,
    "minimal_ident": property(_minimal_ident),
    "name": _Readable(_name),
    "loop": property(_loop),
    "kwargs": property(_kwargs, _set_kwargs),
    "link": _link,
    "link_value": _link_value,
    "link_exception": _link_exception,
    "add_spawn_callback": staticmethod(_add_spawn_callback),
    "remove_spawn_callback": staticmethod(_remove_spawn_callback),
    "_formatinfo": _formatinfo,
    "_repr": _repr,
    "__exit__": _exit,
}.items():
    _extend(Greenlet, _attribute, _value)
del _attribute, _value


# ---- many of them ----


def joinall(greenlets, timeout=None, raise_error=False, count=None):
    """Waits for the greenlets, at most `count` of them or `timeout` seconds; returns those that have ended.

    With raise_error the exception of the first that fails is raised.
    """
    if not raise_error and count is None:
        if not isinstance(greenlets, (list, tuple)):
            greenlets = list(greenlets)
        done = _joinall(greenlets, timeout)
        if done is True:
            return list(greenlets)
        if done is False:
            return [g for g in greenlets if g.ready()]
    if not raise_error:
        return wait(greenlets, timeout=timeout, count=count)
    done = []
    for g in iwait(greenlets, timeout=timeout, count=count):
        if getattr(g, "exception", None) is not None:
            if hasattr(g, "_raise_exception"):
                g._raise_exception()
            raise g.exception
        done.append(g)
    return done


def _killall(greenlets, exception, waiter=None):
    """In the hub: throws at each that lives; tells the waiter who lived on."""
    left = []
    for g in greenlets:
        if g.dead:
            continue
        try:
            g.throw(exception)
        except:  # noqa: E722  what it raises in turn is its own
            _core.get_hub().handle_error(g, *sys.exc_info())
        if not g.dead:
            left.append(g)
    if waiter is not None:
        waiter.switch(left)


def killall(greenlets, exception=GreenletExit, block=True, timeout=None):
    """Kills the greenlets, and waits until they have ended, at most `timeout` seconds: then Timeout."""
    hub = _core.get_hub()
    living, elsewhere = [], []
    for g in greenlets:
        kill_early = getattr(g, "_maybe_kill_before_start", None)
        if kill_early is None:
            living.append(g)
        elif not kill_early(exception):
            # Nothing can be thrown at those of other threads from here; kill() asks their hubs to.
            (living if g.parent is hub else elsewhere).append(g)
    for g in elsewhere:
        g.kill(exception, block=False)
    if not living and not elsewhere:
        return
    loop = hub.loop
    if not block:
        loop.run_callback(_killall, living, exception)
        return
    waiter = _core.Waiter()
    loop.run_callback(_killall, living, exception, waiter)
    timer = Timeout._start_new_or_dummy(timeout)
    try:
        left = waiter.get() + elsewhere
        if left:
            joinall(left)
    finally:
        timer.cancel()
