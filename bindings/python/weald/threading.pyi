import threading as _stdlib

from weald.local import local as local
from weald.lock import RLock as RLock
from weald.thread import LockType, get_ident as get_ident

Lock = LockType

class Thread(_stdlib.Thread): ...
class Timer(Thread, _stdlib.Timer): ...

def main_native_thread() -> _stdlib.Thread: ...
