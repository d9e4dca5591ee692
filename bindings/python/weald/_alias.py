"""The alias: `import gevent...` and `import greenlet` give weald's modules.

    gevent          -> weald                 greenlet          -> weald.greenlet
    gevent.queue    -> weald.queue           greenlet._greenlet -> weald.greenlet
    gevent._compat  -> weald._gevent._compat (names that gevent keeps for itself, and that others use all the same)
    gevent.nonsense -> ModuleNotFoundError, even where a real gevent is installed

They are the same module objects under a second name, so that what is patched under one name is patched under both. A
program that asks which gevent or greenlet is installed is told the versions that we stand in for.

`WEALD_GEVENT_TESTS=dir` adds gevent.testing, gevent.tests and greenlet.tests from dir: they are no part of weald.
"""
import importlib
import importlib.machinery
import importlib.util
import os
import sys

#: What `gevent.__version__` and a look at the installed distributions say.
STANDS_FOR = {"gevent": "26.9.0", "greenlet": "3.5.6"}

# Modules whose place is not the one that the name suggests.
_ELSEWHERE = {
    "gevent": "weald",
    "greenlet": "weald.greenlet",
    "greenlet._greenlet": "weald.greenlet",
    "gevent.greenlet": "weald.greenlet",
    "gevent.monkey._main": "weald.monkey",
    "gevent._semaphore": "weald.lock",
    "gevent._socket3": "weald.socket",
}
# gevent's compiled modules, which editors write into programs where they find a class in one.
_COMPILED = {
    "event": "event", "greenlet": "greenlet", "local": "local", "queue": "queue", "_semaphore": "lock", "_tracer": "_tracer",
    "_abstract_linkable": "_gevent._abstract_linkable", "_greenlet_primitives": "_gevent._greenlet_primitives",
    "_hub_local": "_gevent._hub_local", "_hub_primitives": "_gevent._hub_primitives", "_ident": "_gevent._ident",
    "_waiter": "_gevent._waiter",
}  # fmt: skip
_ELSEWHERE.update({f"gevent._gevent_c{name}": f"weald.{ours}" for name, ours in _COMPILED.items()})
_OF_THE_TESTS = ("gevent.testing", "gevent.tests", "greenlet.tests")


def _target(name):
    """The name of our module that `name` stands for."""
    found = _ELSEWHERE.get(name)
    if found is not None:
        return found
    package, _, rest = name.partition(".")
    if package != "gevent":
        return None
    if (rest.startswith("_") or rest in _GEVENT_ONLY) and importlib.util.find_spec("weald." + rest) is None:
        return "weald._gevent." + rest
    return "weald." + rest


# Public names of gevent that say how it is built, and not what it does.
_GEVENT_ONLY = frozenset(("ares", "resolver_ares", "resolver_thread", "libev", "libuv", "win32util"))


def _as_package(module):
    """`greenlet` is a package to those who import greenlet._greenlet."""
    module.__dict__.setdefault("__path__", [])
    module.__dict__.setdefault("_greenlet", module)
    return module


class _Loader:
    """Loads a module by importing ours, and leaves the module as it is."""

    def __init__(self, target):
        self._target = target

    def create_module(self, spec):
        module = importlib.import_module(self._target)
        # The import system marks a module with the spec it was asked for; exec_module puts the true one back.
        self._spec = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self._spec
        if self._target == "weald.greenlet":
            _as_package(module)

    def _real(self):
        spec = importlib.util.find_spec(self._target)
        return spec.loader

    # For `python -m gevent.monkey`.
    def get_code(self, fullname):
        return self._real().get_code(self._target)

    def get_source(self, fullname):
        return self._real().get_source(self._target)

    def is_package(self, fullname):
        return self._real().is_package(self._target)

    def get_filename(self, fullname):
        return self._real().get_filename(self._target)


class _AlsoAs:
    """The loader of one of our modules, which is known under gevent's name as soon as it is under ours.

    `from gevent import monkey` asks the import system for weald.monkey; others then look for gevent.monkey among the
    modules that are loaded.
    """

    def __init__(self, loader, also):
        self._loader = loader
        self._also = also

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        sys.modules.setdefault(self._also, module)
        try:
            self._loader.exec_module(module)
        except BaseException:
            sys.modules.pop(self._also, None)
            raise

    def __getattr__(self, name):
        return getattr(self._loader, name)


def _name_in_gevent(name):
    """The name under which gevent has one of our modules."""
    return "gevent." + name.removeprefix("weald.").removeprefix("_gevent.")


class _Finder:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if package == "weald" and path is not None:
            spec = importlib.machinery.PathFinder.find_spec(name, path, target)
            if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
                spec.loader = _AlsoAs(spec.loader, _name_in_gevent(name))
            return spec
        if package not in STANDS_FOR:
            return None
        if name.startswith(_OF_THE_TESTS):
            return self._find_test(name)
        ours = _target(name)
        spec = None
        if ours is not None:
            try:
                spec = importlib.util.find_spec(ours)
            except ModuleNotFoundError as problem:
                if problem.name is None or not ours.startswith(problem.name):
                    raise
            except ValueError:
                # A module without a spec, e.g. one that a test made up.
                spec = sys.modules[ours].__spec__
        if spec is None:
            raise ModuleNotFoundError(f"weald has no {name} (it stands in for {package})", name=name)
        found = importlib.machinery.ModuleSpec(
            name, _Loader(ours), origin=spec.origin, is_package=spec.submodule_search_locations is not None
        )
        if spec.submodule_search_locations is not None:
            found.submodule_search_locations = list(spec.submodule_search_locations)
        found.has_location = spec.has_location
        return found

    @staticmethod
    def _find_test(name):
        where = os.environ.get("WEALD_GEVENT_TESTS")
        package, _, rest = name.partition(".")
        if "." in rest:
            return None  # its parent is an ordinary package, and so is this
        return importlib.machinery.PathFinder.find_spec(name, [os.path.join(where, package)]) if where else None

    def find_distributions(self, context=None):
        wanted = getattr(context, "name", None)
        for name in STANDS_FOR:
            if wanted is None or wanted.lower() == name:
                yield _distribution(name)

    def invalidate_caches(self):
        pass


def _distribution(name):
    from importlib.metadata import Distribution

    class Stand(Distribution):
        """What pip would have written down for `name`."""

        def read_text(self, filename):
            if filename == "METADATA":
                return (
                    f"Metadata-Version: 2.1\nName: {name}\nVersion: {STANDS_FOR[name]}\n"
                    "Summary: weald standing in for it\n"
                )
            return None

        def locate_file(self, path):
            return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), path)

    return Stand()


_finder = None


def install():
    """Makes gevent and greenlet mean weald, in this process. Doing it again does nothing.

    Real gevent or greenlet that was imported before stays what it is where it is, so this warns of it.
    """
    global _finder
    if _finder is not None:
        return
    import weald

    for package in STANDS_FOR:
        loaded = sys.modules.get(package)
        if loaded is not None and not getattr(loaded, "__name__", "").startswith("weald"):
            import warnings

            warnings.warn(
                f"{package} was imported before weald.install_as_gevent(): who has it keeps it", RuntimeWarning, 2
            )
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]
    _finder = _Finder()
    sys.meta_path.insert(0, _finder)
    sys.modules["gevent"] = weald
    for name, module in list(sys.modules.items()):
        if name.startswith("weald.") and name != "weald._core":
            sys.modules[_name_in_gevent(name)] = module
    # Whoever has gevent has greenlet: profilers and debuggers look for it among the modules that are loaded.
    sys.modules["greenlet"] = sys.modules["greenlet._greenlet"] = _as_package(weald.greenlet)
    weald.__version__ = STANDS_FOR["gevent"]


def module_of_gevent(name):
    """The module that `from gevent import name` means where weald has none of that name; None if there is none."""
    if _finder is None or name.startswith("__"):
        return None
    if "gevent." + name not in _OF_THE_TESTS:
        if not (name.startswith("_") or name in _GEVENT_ONLY):
            return None
        if importlib.util.find_spec(_target("gevent." + name)) is None:
            return None
    try:
        return importlib.import_module("gevent." + name)
    except ModuleNotFoundError:
        return None


def installed():
    """Whether the alias is in force."""
    return _finder is not None
