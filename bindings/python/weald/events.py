"""Events that weald announces: modules patched, the loop blocked, memory above its limit.

An event goes to each function in `subscribers`, and, for patching, to the entry points of installed distributions in
the group that the event names. With zope.event and zope.interface installed `subscribers` is zope's own list and the
interfaces are zope's; without them we have what they need. The interfaces are made when they are asked for.
"""
import os
import sys

try:
    from zope.event import notify, subscribers
except ImportError:
    subscribers = []

    def notify(event):
        """Gives the event to all subscribers."""
        for subscriber in subscribers:
            subscriber(event)


__all__ = [
    "subscribers", "IEventLoopBlocked", "EventLoopBlocked", "IMemoryUsageThresholdExceeded",
    "MemoryUsageThresholdExceeded", "IMemoryUsageUnderThreshold", "MemoryUsageUnderThreshold",
    "IPeriodicMonitorThread", "IPeriodicMonitorThreadStartedEvent", "PeriodicMonitorThreadStartedEvent",
    "IGeventPatchEvent", "GeventPatchEvent", "IGeventWillPatchEvent", "DoNotPatch", "GeventWillPatchEvent",
    "IGeventDidPatchEvent", "IGeventWillPatchModuleEvent", "GeventWillPatchModuleEvent",
    "IGeventDidPatchModuleEvent", "GeventDidPatchModuleEvent", "IGeventWillPatchAllEvent",
    "GeventWillPatchAllEvent", "IGeventDidPatchBuiltinModulesEvent", "GeventDidPatchBuiltinModulesEvent",
    "IGeventDidPatchAllEvent", "GeventDidPatchAllEvent",
]  # fmt: skip
# The events, each of which has an interface.
_DESCRIBED = [name for name in __all__ if "I" + name in __all__]
_OF_INTERFACES = {"Attribute", "Interface", "implementer", *(name for name in __all__ if name.startswith("I"))}


def __getattr__(name):
    if name not in _OF_INTERFACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from weald import _event_interfaces

    globals().update((name, getattr(_event_interfaces, name)) for name in _OF_INTERFACES)
    for event in _DESCRIBED:
        _event_interfaces.implementer(globals()["I" + event])(globals()[event])
    return globals()[name]


def _has_entry_points(group):
    """Whether any installed distribution speaks of the group. Much cheaper than reading all metadata in earnest."""
    word = group.encode()
    for where in sys.path:
        try:
            entries = os.scandir(where or ".")
        except OSError:
            continue
        with entries:
            for entry in entries:
                # gevent's own are about gevent, and its being installed as well must not load it.
                if not entry.name.endswith((".dist-info", ".egg-info")) or entry.name.startswith("gevent-"):
                    continue
                try:
                    with open(os.path.join(entry.path, "entry_points.txt"), "rb") as file:
                        if word in file.read():
                            return True
                except OSError:
                    pass
    return False


_PLUGINS = "gevent.plugins."
_any_plugins = None


def has_subscribers():
    """Whether anybody hears of an event that is announced."""
    global _any_plugins
    if _any_plugins is None:
        _any_plugins = _has_entry_points(_PLUGINS)
    return bool(subscribers) or _any_plugins


def notify_and_call_entry_points(event):
    """Announces an event, to the subscribers first."""
    notify(event)
    if has_subscribers() and _any_plugins:
        from importlib import metadata

        for plugin in metadata.entry_points(group=event.ENTRY_POINT_NAME):
            if not plugin.value.startswith("gevent."):
                plugin.load()(event)


# ---- the monitoring thread ----


class PeriodicMonitorThreadStartedEvent:
    """See IPeriodicMonitorThreadStartedEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "hub.periodic_monitor_thread_started"

    def __init__(self, monitor):
        self.monitor = monitor


class EventLoopBlocked:
    """See IEventLoopBlocked."""

    def __init__(self, greenlet, blocking_time, info, *, hub=None):
        self.greenlet, self.hub = greenlet, hub
        self.blocking_time, self.info = blocking_time, info


class _MemoryEvent:
    def __init__(self, mem_usage, max_allowed, memory_info):
        self.mem_usage, self.max_allowed, self.memory_info = mem_usage, max_allowed, memory_info

    def __repr__(self):
        return (
            f"<{type(self).__name__} used={self.mem_usage} max={self.max_allowed} details={self.memory_info!r}>"
        )


class MemoryUsageThresholdExceeded(_MemoryEvent):
    """See IMemoryUsageThresholdExceeded."""


class MemoryUsageUnderThreshold(_MemoryEvent):
    """See IMemoryUsageUnderThreshold."""

    def __init__(self, mem_usage, max_allowed, memory_info, max_usage):
        super().__init__(mem_usage, max_allowed, memory_info)
        self.max_memory_usage = max_usage


# ---- patching ----


class DoNotPatch(BaseException):
    """A subscriber raises it at a will-patch event, and the thing stays as it is."""


class GeventPatchEvent:
    """See IGeventPatchEvent."""

    def __init__(self, source, target):
        self.source, self.target = source, target

    def __repr__(self):
        return f"<{type(self).__name__} source={self.source!r} target={self.target!r} at {id(self):x}>"


class GeventWillPatchEvent(GeventPatchEvent):
    """See IGeventWillPatchEvent."""


class GeventDidPatchEvent(GeventPatchEvent):
    """See IGeventDidPatchEvent."""


class GeventWillPatchModuleEvent(GeventWillPatchEvent):
    """See IGeventWillPatchModuleEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.will_patch_module"

    def __init__(self, module_name, source, target, items):
        super().__init__(source, target)
        self.module_name = module_name
        self.target_item_names = items


class GeventDidPatchModuleEvent(GeventDidPatchEvent):
    """See IGeventDidPatchModuleEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.did_patch_module"

    def __init__(self, module_name, source, target):
        super().__init__(source, target)
        self.module_name = module_name


class _PatchAll:
    """What the events of patch_all share: its arguments, to be read."""

    def __init__(self, patch_all_arguments, patch_all_kwargs):
        super().__init__(None, None)
        self._arguments = patch_all_arguments
        self._kwargs = patch_all_kwargs

    @property
    def patch_all_arguments(self):
        return self._arguments.copy()

    @property
    def patch_all_kwargs(self):
        return self._kwargs.copy()

    def __repr__(self):
        return f"<{type(self).__name__} {self._arguments!r} at {id(self):x}>"


class GeventWillPatchAllEvent(_PatchAll, GeventWillPatchEvent):
    """See IGeventWillPatchAllEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.will_patch_all"

    def will_patch_module(self, module_name):
        return self.patch_all_arguments.get(module_name)


class GeventDidPatchBuiltinModulesEvent(_PatchAll, GeventDidPatchEvent):
    """See IGeventDidPatchBuiltinModulesEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.did_patch_builtins"


class GeventDidPatchAllEvent(_PatchAll, GeventDidPatchEvent):
    """See IGeventDidPatchAllEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.did_patch_all"
