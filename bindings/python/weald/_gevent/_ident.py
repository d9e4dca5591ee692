"""Small numbers for objects: no two living objects have the same one, and those of dead ones are used again."""
import heapq
import weakref

__all__ = ["IdentRegistry"]


class IdentRegistry:
    def __init__(self):
        self._idents = weakref.WeakKeyDictionary()
        self._free = []
        self._next = 0

    def get_ident(self, obj):
        known = self._idents.get(obj)
        if known is not None:
            return known[0]
        if self._free:
            ident = heapq.heappop(self._free)
        else:
            ident = self._next
            self._next += 1
        # The reference is kept beside the number, since only a living one calls back.
        self._idents[obj] = ident, weakref.ref(obj, lambda _, free=self._free: heapq.heappush(free, ident))
        return ident

    def __len__(self):
        return len(self._idents)
