"""The standard module `builtins`. Nothing in it needs another implementation: imports lock by module."""
import builtins as __builtins_of_python__

from weald._names import take

__target__ = "builtins"
__implements__ = []
__all__ = __implements__
__import__ = __builtins_of_python__.__import__
__imports__ = take(__builtins_of_python__, globals(), leave=__implements__)
