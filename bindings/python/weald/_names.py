"""Taking over names of a module of the standard library, for the modules that stand beside one."""


def take(source, into, names=None, leave=()):
    """Copies `names` of the module `source` (all but private ones, if None) into the globals `into`.

    Names that the source does not have are passed over: they differ between versions of Python. Returns what it took.
    """
    taken = []
    for name in names if names is not None else list(vars(source)):
        if name in leave or name.startswith("__"):
            continue
        try:
            into[name] = getattr(source, name)
        except AttributeError:
            continue
        taken.append(name)
    return taken
