import io as _io
from collections.abc import Iterator
from os import PathLike
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

from typing_extensions import Self

from weald.threadpool import ThreadPool

__all__ = ["FileObjectPosix", "FileObjectThread", "FileObjectBlock", "FileObject"]

_T = TypeVar("_T", bound=_io.IOBase)
_File: TypeAlias = int | str | bytes | PathLike[Any] | Any

class FileObjectClosed(OSError):
    def __init__(self) -> None: ...

# Everything else that a file has is that of `io`.
class FileObjectBase(Generic[_T]):
    def __init__(self, descriptor: Any) -> None: ...
    @property
    def io(self) -> Any: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None, /
    ) -> None: ...
    def __getattr__(self, name: str) -> Any: ...

class FileObjectBlock(FileObjectBase[Any]):
    def __init__(self, fobj: _File, mode: str = ..., *args: Any, **kwargs: Any) -> None: ...

class FileObjectPosix(FileObjectBase[Any]):
    def __init__(self, fobj: _File, mode: str = ..., *args: Any, **kwargs: Any) -> None: ...

class FileObjectThread(FileObjectBase[Any]):
    def __init__(
        self,
        fobj: _File,
        mode: str = ...,
        *args: Any,
        lock: Any = ...,
        threadpool: ThreadPool | None = ...,
        **kwargs: Any,
    ) -> None: ...

FileObject = FileObjectPosix
