"""The settings: `weald.config.NAME`, or an environment variable read when a setting is first used.

A setting that names a class takes a short name, a dotted name, a list of such (the first that can be imported is
used), or the class itself. `python -m weald._config` lists all of them.
"""

import os

__all__ = ["config"]

ALL_SETTINGS = []


def validate_bool(value):
    """1, true, on, yes or 0, false, off, no; nothing is false."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("1", "true", "on", "yes"):
            return True
        if word in ("", "0", "false", "off", "no"):
            return False
        raise ValueError(f"not a yes or no: {value!r}")
    return bool(value)


def validate_anything(value):
    return value


def validate_invalid(value):
    raise ValueError(f"not a valid value: {value!r}")


convert_str_value_as_is = validate_anything


class Setting:
    """One setting. A subclass is registered by being defined, and becomes a property of `Config`."""

    name = None
    value = None
    default = None
    environment_key = None
    document = True
    desc = ""
    validate = staticmethod(validate_invalid)

    def __init_subclass__(cls, abstract=False):
        if abstract:
            return
        own = vars(cls)
        if "name" not in own:
            cls.name = cls.__name__.lower()
        if "environment_key" not in own:
            cls.environment_key = "GEVENT_" + cls.name.upper()
        cls.order = len(ALL_SETTINGS)
        cls.desc = cls.__doc__ = cls._describe()
        ALL_SETTINGS.append(cls)
        if cls.document:
            setattr(Config, cls.name, _config_property(cls))

    @classmethod
    def _describe(cls):
        text = " ".join((vars(cls).get("desc") or vars(cls).get("__doc__") or "").split())
        shorts = getattr(cls, "shortname_map", None)
        if shorts:
            text += "\n\nShort names: " + ", ".join(shorts)
        default = f"`{cls.default}`" if isinstance(cls.default, str) and shorts else f"`{cls.default!r}`"
        return f"{text}\n\nThe default value is {default}\n\nIn the environment: ``{cls.environment_key}``."

    def _convert(self, value):
        """From what the environment or a caller gives to what validate takes: words separated by commas are a list."""
        return value.split(",") if isinstance(value, str) else value

    def _default(self):
        return self._convert(os.environ.get(self.environment_key, self.default))

    def get(self):
        if "value" not in vars(self):
            # Kept, so that a change of the environment does not change the answer.
            self.value = self.validate(self._default())
        return self.value

    def set(self, value):
        self.value = self.validate(self._convert(value))


def _config_property(cls):
    name = cls.name
    return property(lambda self: self.settings[name].get(), lambda self, value: self.settings[name].set(value),
                    doc=cls.__doc__)


def make_settings():
    """A fresh instance of each setting."""
    settings = {}
    for kind in ALL_SETTINGS:
        setting = kind()
        assert setting.name not in settings, setting.name
        settings[setting.name] = setting
    return settings


class Config:
    """All settings as attributes. Set them before what they govern is first used."""

    def __init__(self):
        self.settings = make_settings()

    def __getattr__(self, name):
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"there is no setting named {name!r}")
        return settings[name].get()

    def __setattr__(self, name, value):
        if name != "settings" and name in self.settings:
            self.set(name, value)
        else:
            super().__setattr__(name, value)

    def set(self, name, value):
        if name not in self.settings:
            raise AttributeError(f"there is no setting named {name!r}")
        self.settings[name].set(value)

    def __dir__(self):
        return list(self.settings)

    def print_help(self):
        """Prints what each setting is for."""
        for name, setting in self.settings.items():
            print(name)
            print("".join("    " + line + "\n" for line in setting.desc.splitlines()))


class ImportableSetting:
    """A setting whose value is a class, given by name."""

    shortname_map = {}

    def _import_one(self, path):
        if not isinstance(path, str):
            return path
        if "." not in path or "/" in path:
            raise ImportError(f"Cannot import {path!r}: give package.module.name, or one of {list(self.shortname_map)}")
        module, _, item = path.rpartition(".")
        try:
            from importlib import import_module

            return getattr(import_module(module), item)
        except AttributeError:
            raise ImportError(f"{module} has no {item}") from None

    def _import_one_of(self, candidates):
        assert isinstance(candidates, list)
        if not candidates:
            raise ImportError("Cannot import from empty list")
        for candidate in candidates[:-1]:
            try:
                return self._import_one(candidate)
            except ImportError:
                pass
        return self._import_one(candidates[-1])

    def validate(self, value):
        if isinstance(value, type):
            return value
        return self._import_one_of([self.shortname_map.get(item, item) for item in value])

    def get_options(self):
        """What each short name stands for: the object, or the error that importing it gives."""
        options = {}
        for name, path in self.shortname_map.items():
            try:
                options[name] = self._import_one(path)
            except ImportError as problem:
                options[name] = problem
        return options


class BoolSettingMixin:
    validate = staticmethod(validate_bool)
    _convert = staticmethod(convert_str_value_as_is)


class IntSettingMixin:
    validate = staticmethod(validate_anything)

    def _convert(self, value):
        return int(value) if value else None


class _Positive:
    def validate(self, value):
        if value is not None and value <= 0:
            raise ValueError(f"must be positive: {value!r}")
        return value


class FloatSettingMixin(_Positive):
    def _convert(self, value):
        return float(value) if value else None


class ByteCountSettingMixin(_Positive):
    """A number of bytes; as a word it may end in kb, mb or gb."""

    _MULTIPLES = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}

    def _convert(self, value):
        if not value or not isinstance(value, str):
            return value
        value = value.lower()
        multiple = self._MULTIPLES.get(value[-2:])
        return int(value[:-2]) * multiple if multiple else int(value)


class Resolver(ImportableSetting, Setting):
    """What looks names up: `hub.resolver` is an instance of it."""

    default = ["thread", "dnspython", "ares", "block"]
    shortname_map = {
        "ares": "weald.resolver.ares.Resolver",
        "thread": "weald.resolver.thread.Resolver",
        "block": "weald.resolver.blocking.Resolver",
        "dnspython": "weald.resolver.dnspython.Resolver",
    }


class Threadpool(ImportableSetting, Setting):
    """The class of `hub.threadpool`."""

    default = "weald.threadpool.ThreadPool"

    def _convert(self, value):
        return [value] if isinstance(value, str) else value


class ThreadpoolIdleTaskTimeout(FloatSettingMixin, Setting):
    """Seconds after which an idle thread of the hub's pool ends."""

    name = "threadpool_idle_task_timeout"
    default = 5.0

    def validate(self, value):
        # -1 means for ever.
        return value if value == -1 else super().validate(value)


class Loop(ImportableSetting, Setting):
    """The loop. There is one, weald's own; the names of gevent's loops are understood as that."""

    default = ["weald"]
    shortname_map = dict.fromkeys(
        ("weald", "libev-cext", "libev-cffi", "libuv-cffi", "libuv"), "weald.core.loop"
    )


class FormatContext(ImportableSetting, Setting):
    """Turns the context of an error into text."""

    name = "format_context"
    default = "pprint.saferepr"

    def _convert(self, value):
        return [value] if isinstance(value, str) else value

    def validate(self, value):
        return value if callable(value) else super().validate(value)


class LibevBackend(Setting):
    """Accepted and without effect: there is one poller."""

    name = "libev_backend"
    environment_key = "GEVENT_BACKEND"
    validate = staticmethod(validate_anything)


class FileObject(ImportableSetting, Setting):
    """What `weald.fileobject.FileObject` is."""

    environment_key = "GEVENT_FILE"
    default = ["posix", "thread"]
    shortname_map = {
        "thread": "weald.fileobject.FileObjectThread",
        "posix": "weald.fileobject.FileObjectPosix",
        "block": "weald.fileobject.FileObjectBlock",
    }


class WatchChildren(BoolSettingMixin, Setting):
    """Whether not to watch children that os.fork makes."""

    name = "disable_watch_children"
    environment_key = "GEVENT_NOWAITPID"
    default = False


class TraceMalloc(IntSettingMixin, Setting):
    """Belongs to the interpreter."""

    name = "trace_malloc"
    environment_key = "PYTHONTRACEMALLOC"
    default = False


class TrackGreenletTree(BoolSettingMixin, Setting):
    """Whether a greenlet remembers who spawned it, and where."""

    name = "track_greenlet_tree"
    default = True


class InheritContext(BoolSettingMixin, Setting):
    """Whether a greenlet that is spawned begins with a copy of its spawner's context variables; else with none."""

    name = "inherit_context"
    environment_key = "WEALD_INHERIT_CONTEXT"
    default = False

    def set(self, value):
        super().set(value)
        from weald._core import set_inherit_context

        set_inherit_context(self.value)


class MonitorThread(BoolSettingMixin, Setting):
    """Whether a thread watches each hub, and says so when it does not turn."""

    name = "monitor_thread"
    environment_key = "GEVENT_MONITOR_THREAD_ENABLE"
    default = False


class MaxBlockingTime(FloatSettingMixin, Setting):
    """Seconds that a greenlet may run without a switch before the monitoring thread reports it."""

    name = "max_blocking_time"
    default = 0.1


class PrintBlockingReports(BoolSettingMixin, Setting):
    """Whether the monitoring thread prints its reports, besides sending events."""

    name = "print_blocking_reports"
    environment_key = "GEVENT_MONITOR_PRINT_BLOCKING_REPORTS"
    default = True


class MonitorMemoryPeriod(FloatSettingMixin, Setting):
    """Seconds between two looks of the monitoring thread at the memory in use."""

    name = "memory_monitor_period"
    environment_key = "GEVENT_MONITOR_MEMORY_PERIOD"
    default = 5


class MonitorMemoryMaxUsage(ByteCountSettingMixin, Setting):
    """Bytes in use above which the monitoring thread sends events. No default."""

    name = "max_memory_usage"
    environment_key = "GEVENT_MONITOR_MEMORY_MAX"


class AresSettingMixin:
    """Settings of the resolver named ares; kept as they come."""

    document = False
    validate = staticmethod(validate_anything)
    _convert = staticmethod(convert_str_value_as_is)

    @property
    def kwarg_name(self):
        return self.name[5:]


class AresFlags(AresSettingMixin, Setting):
    name = "ares_flags"
    environment_key = "GEVENTARES_FLAGS"


class AresTimeout(AresSettingMixin, Setting):
    document = True
    name = "ares_timeout"
    environment_key = "GEVENTARES_TIMEOUT"


class AresTries(AresSettingMixin, Setting):
    name = "ares_tries"
    environment_key = "GEVENTARES_TRIES"


class AresNdots(AresSettingMixin, Setting):
    name = "ares_ndots"
    environment_key = "GEVENTARES_NDOTS"


class AresUDPPort(AresSettingMixin, Setting):
    name = "ares_udp_port"
    environment_key = "GEVENTARES_UDP_PORT"


class AresTCPPort(AresSettingMixin, Setting):
    name = "ares_tcp_port"
    environment_key = "GEVENTARES_TCP_PORT"


class AresServers(AresSettingMixin, Setting):
    document = True
    name = "ares_servers"
    environment_key = "GEVENTARES_SERVERS"


class ResolverNameservers(AresSettingMixin, Setting):
    """Addresses of name servers, for the resolvers that ask them directly."""

    document = True
    name = "resolver_nameservers"

    def _convert(self, value):
        return Setting._convert(self, value)

    @property
    def kwarg_name(self):
        return "servers"


class ResolverTimeout(FloatSettingMixin, AresSettingMixin, Setting):
    """Seconds that such a resolver may take in all."""

    document = True
    name = "resolver_timeout"

    def validate(self, value):
        return FloatSettingMixin.validate(self, value)

    @property
    def kwarg_name(self):
        return "timeout"


config = Config()

if __name__ == "__main__":
    config.print_help()
