from collections.abc import Callable
from typing import Any, NoReturn, final

from weald.greenlet import greenlet
from weald.local import local as _local
from weald.lock import BoundedSemaphore

error = RuntimeError
TIMEOUT_MAX: float

def get_ident(gr: greenlet | None = ...) -> int: ...
def start_new_thread(
    function: Callable[..., Any], args: tuple[Any, ...] = ..., kwargs: dict[str, Any] | None = ...
) -> int: ...
def exit() -> NoReturn: ...
def stack_size(size: int | None = ...) -> int: ...

@final
class LockType(BoundedSemaphore):
    def __init__(self) -> None: ...
    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...  # type: ignore[override]

allocate_lock = LockType
lock = LockType
