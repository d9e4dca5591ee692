"""What patching is made of: what was replaced and what was there, replacing, and what is told of it.

Below `weald.monkey`, which says what is patched by what, and below all that want what was there. What it imports at its
top is imported before anything is patched. So it imports nothing.
"""
import sys

#: name of a module: {name in it: what was there}
saved = {}

_MISSING = object()


class MonkeyPatchWarning(RuntimeWarning):
    """Something was patched too late, or only in part."""


class _BadImplements(AttributeError):
    def __init__(self, module):
        super().__init__(f"Module {module!r} has a bad or missing value for __implements__")


# ---- what is patched ----


def waits_for_import(name):
    """Whether patch_all has put this module off until somebody imports it."""
    hooks = sys.modules.get("weald._on_import")
    return hooks is not None and hooks.is_pending(name)


def is_module_patched(mod_name):
    """Whether anything in the module was replaced, or will be before anybody can have it."""
    return mod_name in saved or waits_for_import(mod_name)


def is_object_patched(mod_name, item_name):
    """Whether this name of the module was replaced."""
    if waits_for_import(mod_name):
        __import__(mod_name)
    return item_name in saved.get(mod_name, ())


def is_anything_patched():
    return bool(saved)


def get_original(mod_name, item_name):
    """What the standard module has, or had, under a name.

    Given several modules, the first that can be imported; given several names, a list.
    """
    names = [item_name] if isinstance(item_name, str) else item_name
    modules = [mod_name] if isinstance(mod_name, str) else list(mod_name)
    for module in modules:
        try:
            found = [_original(module, name) for name in names]
        except ImportError:
            if module is modules[-1]:
                raise
        else:
            return found[0] if isinstance(item_name, str) else found


def _original(mod_name, name):
    if waits_for_import(mod_name):
        __import__(mod_name)
    was = saved.get(mod_name, {}).get(name, _MISSING)
    return getattr(__import__(mod_name), name) if was is _MISSING else was


# ---- replacing ----


def _save(module, name, value):
    saved.setdefault(module.__name__, {}).setdefault(name, value)


def patch_item(module, attr, newitem):
    """Replaces one name, and keeps what was there."""
    was = getattr(module, attr, _MISSING)
    if was is not _MISSING:
        _save(module, attr, was)
    setattr(module, attr, newitem)


def remove_item(module, attr):
    """Removes one name, and keeps what was there."""
    was = getattr(module, attr, _MISSING)
    if was is not _MISSING:
        _save(module, attr, was)
        delattr(module, attr)


class _Request:
    """What a module's own `_gevent_do_monkey_patch` is given."""

    get_original = staticmethod(get_original)

    def __init__(self, target_module, source_module, items, patch_kwargs):
        self.target_module = target_module
        self.source_module = source_module
        self.items = items
        self.patch_kwargs = patch_kwargs or {}

    def __repr__(self):
        return (
            f"<{type(self).__name__} target={self.target_module!r} source={self.source_module!r} "
            f"items={self.items!r} kwargs={self.patch_kwargs!r}>"
        )

    def default_patch_items(self):
        for name in self.items:
            patch_item(self.target_module, name, getattr(self.source_module, name))

    def remove_item(self, target_module, *items):
        if isinstance(target_module, str):
            items, target_module = (target_module, *items), self.target_module
        for name in items:
            remove_item(target_module, name)


def patch_module(target_module, source_module, items=None, _warnings=None, _patch_kwargs=None,
                 _notify_will_subscribers=True, _notify_did_subscribers=True, _call_hooks=True):  # fmt: skip
    """Replaces in target_module what source_module lists in __implements__, or `items`.

    `_gevent_will_monkey_patch(target, items, warn)` and `_gevent_did_monkey_patch` of the source are called before and
    after, if it has them. Returns whether it was done: a subscriber may have raised DoNotPatch.
    """
    from weald import events

    if items is None:
        items = getattr(source_module, "__implements__", None)
        if items is None:
            raise _BadImplements(source_module)

    def hook(when):
        function = getattr(source_module, f"_gevent_{when}_monkey_patch", None)
        if function is not None and _call_hooks:
            function(target_module, items, lambda message: warn(message, _warnings))

    try:
        hook("will")
        if _notify_will_subscribers:
            announce(
                events.GeventWillPatchModuleEvent(target_module.__name__, source_module, target_module, items),
                _warnings,
            )
    except events.DoNotPatch:
        return False
    request = _Request(target_module, source_module, items, _patch_kwargs)
    own = getattr(source_module, "_gevent_do_monkey_patch", None)
    own(request) if own else request.default_patch_items()
    hook("did")
    if _notify_did_subscribers:
        announce(events.GeventDidPatchModuleEvent(target_module.__name__, source_module, target_module))
    return True


def announce(event, warnings=None):
    from weald.events import notify_and_call_entry_points

    event._warnings = warnings
    notify_and_call_entry_points(event)


def _check_availability(name):
    """Our module, the standard one, and the latter's name."""
    import importlib

    # Ours first: it takes what it needs from the standard one before that is patched.
    ours = importlib.import_module("weald." + name)
    target = getattr(ours, "__target__", name)
    return ours, __import__(target), target


def patch_our_module(name, items=None, **kwargs):
    ours, standard, _ = _check_availability(name)
    patch_module(standard, ours, items=items, **kwargs)
    return ours, standard


# ---- warnings: collected while patching, since `warnings` imports what is about to be patched ----


def warn(message, warnings):
    if warnings is None:
        give_warnings([message])
    else:
        warnings.append(message)


def give_warnings(messages):
    if messages:
        import warnings

        for message in messages:
            warnings.warn(message, MonkeyPatchWarning, stacklevel=3)
