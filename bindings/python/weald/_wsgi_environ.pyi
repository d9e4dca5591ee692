import logging
from collections.abc import Iterable
from typing import Any

class Environ(dict[str, Any]): ...

class SecureEnviron(Environ):
    default_secure_repr: bool
    default_whitelist_keys: tuple[str, ...]
    default_print_masked_keys: bool
    secure_repr: bool
    whitelist_keys: tuple[str, ...]
    print_masked_keys: bool

class WSGISecureEnviron(SecureEnviron): ...

class LoggingLogAdapter:
    def __init__(self, logger: logging.Logger, level: int = ...) -> None: ...
    def write(self, msg: str) -> None: ...
    def writelines(self, lines: Iterable[str]) -> None: ...
    def flush(self) -> None: ...
