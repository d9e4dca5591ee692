from collections.abc import Iterable
from select import (
    EPOLLERR as EPOLLERR, EPOLLET as EPOLLET, EPOLLEXCLUSIVE as EPOLLEXCLUSIVE, EPOLLHUP as EPOLLHUP,
    EPOLLIN as EPOLLIN, EPOLLMSG as EPOLLMSG, EPOLLONESHOT as EPOLLONESHOT, EPOLLOUT as EPOLLOUT,
    EPOLLPRI as EPOLLPRI, EPOLLRDBAND as EPOLLRDBAND, EPOLLRDHUP as EPOLLRDHUP, EPOLLRDNORM as EPOLLRDNORM,
    EPOLLWRBAND as EPOLLWRBAND, EPOLLWRNORM as EPOLLWRNORM, EPOLL_CLOEXEC as EPOLL_CLOEXEC, PIPE_BUF as PIPE_BUF,
    POLLERR as POLLERR, POLLHUP as POLLHUP, POLLIN as POLLIN, POLLMSG as POLLMSG, POLLNVAL as POLLNVAL,
    POLLOUT as POLLOUT, POLLPRI as POLLPRI, POLLRDBAND as POLLRDBAND, POLLRDHUP as POLLRDHUP,
    POLLRDNORM as POLLRDNORM, POLLWRBAND as POLLWRBAND, POLLWRNORM as POLLWRNORM, epoll as epoll, error as error,
)  # fmt: skip
from typing import Any, Protocol, TypeAlias

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

_File: TypeAlias = int | _HasFileno

def get_fileno(fileobj: _File) -> int: ...
def select(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = ...
) -> tuple[list[Any], list[Any], list[Any]]: ...

class poll:
    def register(self, fd: _File, eventmask: int = ...) -> None: ...
    def modify(self, fd: _File, eventmask: int) -> None: ...
    def unregister(self, fd: _File) -> None: ...
    def poll(self, timeout: float | None = ...) -> list[tuple[int, int]]: ...
