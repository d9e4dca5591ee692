"""The interfaces of weald.events: zope's, where zope.interface is installed, and plain classes otherwise.

A module of its own, which weald.events imports when somebody asks it for one of them: zope.interface takes longer to
import than it takes to patch the standard library, and an event does without until then.
"""
try:
    from zope.interface import Attribute, Interface, implementer
except ImportError:

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


class IPeriodicMonitorThread(Interface):
    """The thread that looks after a hub."""

    def add_monitoring_function(function, period):
        """Calls function(hub) in that thread every `period` seconds; None removes it."""


class IPeriodicMonitorThreadStartedEvent(Interface):
    """A hub has started its monitoring thread."""

    monitor = Attribute("The IPeriodicMonitorThread.")


class IEventLoopBlocked(Interface):
    """A greenlet ran for longer than it should without a switch. Sent in the monitoring thread."""

    greenlet = Attribute("The greenlet.")
    blocking_time = Attribute("Roughly for how many seconds.")
    info = Attribute("Lines of a report, to which may be added.")
    hub = Attribute("The hub, or None.")


class IMemoryUsageThresholdExceeded(Interface):
    """More memory is used than config.max_memory_usage. Sent again only if it grows further."""

    mem_usage = Attribute("Bytes in use.")
    max_allowed = Attribute("Bytes allowed.")
    memory_info = Attribute("What psutil says.")


class IMemoryUsageUnderThreshold(Interface):
    """Memory in use is below the limit again."""

    mem_usage = Attribute("Bytes in use.")
    max_allowed = Attribute("Bytes allowed.")
    max_memory_usage = Attribute("Bytes in use when the limit was exceeded.")
    memory_info = Attribute("What psutil says.")


class IGeventPatchEvent(Interface):
    """Anything about patching."""

    source = Attribute("Where the patches come from.")
    target = Attribute("What is patched.")


class IGeventWillPatchEvent(IGeventPatchEvent):
    """Something is about to be patched."""


class IGeventDidPatchEvent(IGeventPatchEvent):
    """Something was patched."""


class IGeventWillPatchModuleEvent(IGeventWillPatchEvent):
    """A module is about to be patched; source and target are modules."""

    module_name = Attribute("The name of the target.")
    target_item_names = Attribute("What will be replaced in it; the list may be changed.")


class IGeventDidPatchModuleEvent(IGeventDidPatchEvent):
    """A module was patched."""

    module_name = Attribute("The name of the target.")


class IGeventWillPatchAllEvent(IGeventWillPatchEvent):
    """patch_all begins."""

    patch_all_arguments = Attribute("Its arguments.")
    patch_all_kwargs = Attribute("Its further arguments, which it does not know.")

    def will_patch_module(module_name):
        """Whether the module is among what it will patch."""


class IGeventDidPatchBuiltinModulesEvent(IGeventDidPatchEvent):
    """patch_all is done with the standard library: the time for patching other packages."""

    patch_all_arguments = Attribute("Its arguments.")
    patch_all_kwargs = Attribute("Its further arguments, which it does not know.")


class IGeventDidPatchAllEvent(IGeventDidPatchEvent):
    """patch_all is done, subscribers included."""
