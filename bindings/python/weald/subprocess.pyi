import subprocess as _stdlib
from collections.abc import Callable
from subprocess import (
    DEVNULL as DEVNULL,
    PIPE as PIPE,
    STDOUT as STDOUT,
    CalledProcessError as CalledProcessError,
    CompletedProcess as CompletedProcess,
    SubprocessError as SubprocessError,
    TimeoutExpired as TimeoutExpired,
    call as call,
    check_call as check_call,
    check_output as check_output,
    getoutput as getoutput,
    getstatusoutput as getstatusoutput,
    list2cmdline as list2cmdline,
    run as run,
)
from typing import Any, AnyStr

from weald.event import AsyncResult

class Popen(_stdlib.Popen[AnyStr]):
    result: AsyncResult[int]
    def rawlink(self, callback: Callable[[Popen[AnyStr]], Any]) -> None: ...
