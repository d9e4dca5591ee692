"""Events that weald announces: modules patched, the loop blocked, memory above its limit.

An event goes to each function in `subscribers`, and, for patching, to the entry points of installed distributions in
the group that the event names. With zope.event and zope.interface installed `subscribers` is zope's own list and the
interfaces are zope's; without them this module has what it needs.
"""
import os
import sys

try:
    from zope.event import notify, subscribers
    from zope.interface import Attribute, Interface, implementer
except ImportError:
    subscribers = []

    def notify(event):
        """Gives the event to all subscribers."""
        for subscriber in subscribers:
            subscriber(event)

    class Interface:
        """A description of what an object has."""

    def Attribute(text):
        """A description of an attribute."""
        return property(doc=text)

    def implementer(*interfaces):
        """Says that a class has what the interfaces describe."""

        def mark(cls):
            cls.__implemented__ = interfaces
            return cls

        return mark


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
                if not entry.name.endswith((".dist-info", ".egg-info")):
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


def notify_and_call_entry_points(event):
    """Announces an event, to the subscribers first."""
    global _any_plugins
    notify(event)
    if _any_plugins is None:
        _any_plugins = _has_entry_points(_PLUGINS)
    if _any_plugins:
        from importlib import metadata

        for plugin in metadata.entry_points(group=event.ENTRY_POINT_NAME):
            plugin.load()(event)


# ---- the monitoring thread ----


class IPeriodicMonitorThread(Interface):
    """The thread that looks after a hub."""

    def add_monitoring_function(function, period):
        """Calls function(hub) in that thread every `period` seconds; None removes it."""


class IPeriodicMonitorThreadStartedEvent(Interface):
    """A hub has started its monitoring thread."""

    monitor = Attribute("The IPeriodicMonitorThread.")


@implementer(IPeriodicMonitorThreadStartedEvent)
class PeriodicMonitorThreadStartedEvent:
    """See IPeriodicMonitorThreadStartedEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "hub.periodic_monitor_thread_started"

    def __init__(self, monitor):
        self.monitor = monitor


class IEventLoopBlocked(Interface):
    """A greenlet ran for longer than it should without a switch. Sent in the monitoring thread."""

    greenlet = Attribute("The greenlet.")
    blocking_time = Attribute("Roughly for how many seconds.")
    info = Attribute("Lines of a report, to which may be added.")
    hub = Attribute("The hub, or None.")


@implementer(IEventLoopBlocked)
class EventLoopBlocked:
    """See IEventLoopBlocked."""

    def __init__(self, greenlet, blocking_time, info, *, hub=None):
        self.greenlet, self.hub = greenlet, hub
        self.blocking_time, self.info = blocking_time, info


class IMemoryUsageThresholdExceeded(Interface):
    """More memory is used than config.max_memory_usage. Sent again only if it grows further."""

    mem_usage = Attribute("Bytes in use.")
    max_allowed = Attribute("Bytes allowed.")
    memory_info = Attribute("What psutil says.")


class _MemoryEvent:
    def __init__(self, mem_usage, max_allowed, memory_info):
        self.mem_usage, self.max_allowed, self.memory_info = mem_usage, max_allowed, memory_info

    def __repr__(self):
        return (
            f"<{type(self).__name__} used={self.mem_usage} max={self.max_allowed} details={self.memory_info!r}>"
        )


@implementer(IMemoryUsageThresholdExceeded)
class MemoryUsageThresholdExceeded(_MemoryEvent):
    """See IMemoryUsageThresholdExceeded."""


class IMemoryUsageUnderThreshold(Interface):
    """Memory in use is below the limit again."""

    mem_usage = Attribute("Bytes in use.")
    max_allowed = Attribute("Bytes allowed.")
    max_memory_usage = Attribute("Bytes in use when the limit was exceeded.")
    memory_info = Attribute("What psutil says.")


@implementer(IMemoryUsageUnderThreshold)
class MemoryUsageUnderThreshold(_MemoryEvent):
    """See IMemoryUsageUnderThreshold."""

    def __init__(self, mem_usage, max_allowed, memory_info, max_usage):
        super().__init__(mem_usage, max_allowed, memory_info)
        self.max_memory_usage = max_usage


# ---- patching ----


class DoNotPatch(BaseException):
    """A subscriber raises it at a will-patch event, and the thing stays as it is."""


class IGeventPatchEvent(Interface):
    """Anything about patching."""

    source = Attribute("Where the patches come from.")
    target = Attribute("What is patched.")


@implementer(IGeventPatchEvent)
class GeventPatchEvent:
    """See IGeventPatchEvent."""

    def __init__(self, source, target):
        self.source, self.target = source, target

    def __repr__(self):
        return f"<{type(self).__name__} source={self.source!r} target={self.target!r} at {id(self):x}>"


class IGeventWillPatchEvent(IGeventPatchEvent):
    """Something is about to be patched."""


@implementer(IGeventWillPatchEvent)
class GeventWillPatchEvent(GeventPatchEvent):
    """See IGeventWillPatchEvent."""


class IGeventDidPatchEvent(IGeventPatchEvent):
    """Something was patched."""


@implementer(IGeventDidPatchEvent)
class GeventDidPatchEvent(GeventPatchEvent):
    """See IGeventDidPatchEvent."""


class IGeventWillPatchModuleEvent(IGeventWillPatchEvent):
    """A module is about to be patched; source and target are modules."""

    module_name = Attribute("The name of the target.")
    target_item_names = Attribute("What will be replaced in it; the list may be changed.")


@implementer(IGeventWillPatchModuleEvent)
class GeventWillPatchModuleEvent(GeventWillPatchEvent):
    """See IGeventWillPatchModuleEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.will_patch_module"

    def __init__(self, module_name, source, target, items):
        super().__init__(source, target)
        self.module_name = module_name
        self.target_item_names = items


class IGeventDidPatchModuleEvent(IGeventDidPatchEvent):
    """A module was patched."""

    module_name = Attribute("The name of the target.")


@implementer(IGeventDidPatchModuleEvent)
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


class IGeventWillPatchAllEvent(IGeventWillPatchEvent):
    """patch_all begins."""

    patch_all_arguments = Attribute("Its arguments.")
    patch_all_kwargs = Attribute("Its further arguments, which it does not know.")

    def will_patch_module(module_name):
        """Whether the module is among what it will patch."""


@implementer(IGeventWillPatchAllEvent)
class GeventWillPatchAllEvent(_PatchAll, GeventWillPatchEvent):
    """See IGeventWillPatchAllEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.will_patch_all"

    def will_patch_module(self, module_name):
        return self.patch_all_arguments.get(module_name)


class IGeventDidPatchBuiltinModulesEvent(IGeventDidPatchEvent):
    """patch_all is done with the standard library: the time for patching other packages."""

    patch_all_arguments = Attribute("Its arguments.")
    patch_all_kwargs = Attribute("Its further arguments, which it does not know.")


@implementer(IGeventDidPatchBuiltinModulesEvent)
class GeventDidPatchBuiltinModulesEvent(_PatchAll, GeventDidPatchEvent):
    """See IGeventDidPatchBuiltinModulesEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.did_patch_builtins"


class IGeventDidPatchAllEvent(IGeventDidPatchEvent):
    """patch_all is done, subscribers included."""


@implementer(IGeventDidPatchAllEvent)
class GeventDidPatchAllEvent(_PatchAll, GeventDidPatchEvent):
    """See IGeventDidPatchAllEvent."""

    ENTRY_POINT_NAME = _PLUGINS + "monkey.did_patch_all"
