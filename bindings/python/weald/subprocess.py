"""The standard module `subprocess`, where waiting for a child or talking to it lets other greenlets run.

A Popen is the standard one: children are made by the interpreter's own code. What differs is that its pipes are
FileObjects, and that the loop watches the child.
"""
import errno
import os
import subprocess as __subprocess__
import sys
import time
from subprocess import (
    DEVNULL,  # noqa: F401
    PIPE,
    STDOUT,
    CalledProcessError,
    CompletedProcess,
    SubprocessError,  # noqa: F401
    TimeoutExpired,
)

from weald._names import take
from weald.event import AsyncResult
from weald.greenlet import Greenlet, joinall, killall
from weald.hub import get_hub, get_hub_if_exists, getcurrent, sleep
from weald.os import _watch_child

__implements__ = ["Popen", "call", "check_call", "check_output", "run", "getoutput", "getstatusoutput"]
__imports__ = take(__subprocess__, globals(), [
    "PIPE", "STDOUT", "DEVNULL", "CalledProcessError", "CompletedProcess", "SubprocessError", "TimeoutExpired",
    "list2cmdline",
])  # fmt: skip
__all__ = [name for name in __implements__ + __imports__ if name != "list2cmdline"]


def FileObject(*args, **kwargs):
    # When it is first needed: the setting that chooses it may still change.
    from weald import fileobject

    globals()["FileObject"] = fileobject.FileObject
    return fileobject.FileObject(*args, **kwargs)


class _Reader:
    """Reads a pipe to its end, and keeps what came before a timeout."""

    def __init__(self, popen, file):
        self._popen = popen
        self._file = file
        self._parts = []
        self.greenlet = Greenlet.spawn(self._run)

    def _run(self):
        file = self._file
        try:
            source = file
            if self._popen.text_mode:
                source = getattr(file.io, "buffer", None)
            read = getattr(source, "read1", None) or getattr(source, "read")
            while True:
                part = read(65536)
                if not part:
                    return
                self._parts.append(part)
        finally:
            try:
                file.close()
            except OSError:
                pass

    def so_far(self):
        return b"".join(self._parts)

    def result(self):
        data = self.so_far()
        if not self._popen.text_mode:
            return data
        file = self._popen
        text = data.decode(self._encoding(), file.errors or "strict")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def _encoding(self):
        encoding = self._popen.encoding
        if encoding in (None, "locale"):
            import locale

            encoding = locale.getpreferredencoding(False)
        return encoding


class _Talk:
    """What communicate has begun: greenlets that write and read. Iterated over, it gives them."""

    def __init__(self, popen, data):
        self.stdout = _Reader(popen, popen.stdout) if popen.stdout else None
        self.stderr = _Reader(popen, popen.stderr) if popen.stderr else None
        self._greenlets = [reader.greenlet for reader in (self.stdout, self.stderr) if reader]
        if popen.stdin:
            # Even if there is nothing to write: it must be closed.
            self._greenlets.append(Greenlet.spawn(_write_and_close, popen.stdin, data))

    def __iter__(self):
        return iter(self._greenlets)

    def __len__(self):
        return len(self._greenlets)

    def give_up(self):
        killall([greenlet for greenlet in self if not greenlet.dead])


def _write_and_close(file, data):
    try:
        if data:
            file.write(data)
            file.flush()
    except OSError as problem:
        # The child does not want it.
        if not isinstance(problem, BrokenPipeError) and problem.errno not in (errno.EPIPE, errno.EINVAL):
            raise
    finally:
        try:
            file.close()
        except OSError:
            pass


class Popen(__subprocess__.Popen):
    """A child process, like the standard class's. weald.wait can wait for it."""

    _communicating_greenlets = None  # a _Talk, once there is one

    def __init__(self, args, bufsize=-1, *more, threadpool=None, **kwargs):
        self._loop = get_hub().loop
        self.result = AsyncResult()
        self.stdin = self.stdout = self.stderr = None
        if bufsize is None:
            bufsize = -1
        super().__init__(args, bufsize, *more, **kwargs)
        # Nothing has used the files that it opened. Their descriptors go to ours.
        try:
            for name, mode in ("stdin", "w"), ("stdout", "r"), ("stderr", "r"):
                file = getattr(self, name)
                if file is not None:
                    setattr(self, name, self._green(file, mode, bufsize))
        except BaseException:
            self.kill()
            raise

    def _green(self, file, mode, bufsize):
        raw = file
        while not hasattr(raw, "readall"):
            raw = raw.detach()
        if self.text_mode:
            encoding = None if self.encoding == "locale" else self.encoding
            return FileObject(raw, mode, bufsize, encoding=encoding, errors=self.errors)
        return FileObject(raw, mode + "b", -1 if bufsize == 1 else bufsize)

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} pid={self.pid!r} returncode={self.returncode!r}>"

    # ---- the child's life ----

    def _get_handles(self, stdin, stdout, stderr):
        handles = super()._get_handles(stdin, stdout, stderr)
        # A FileObject's descriptor does not block; programs expect that theirs do.
        for fd in handles[0], handles[3], handles[5]:
            if fd != -1:
                os.set_blocking(fd, True)
        return handles

    def _execute_child(self, *args, **kwargs):
        self._loop.install_sigchld()
        super()._execute_child(*args, **kwargs)
        _watch_child(self.pid, self._on_child, self._loop, True)

    def _on_child(self, watcher):
        watcher.stop()
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(watcher.rstatus)
        self.result.set(self.returncode)

    def rawlink(self, callback):
        """callback(self) is called in the hub when the child has ended."""
        self.result.rawlink(lambda _: callback(self))

    def _internal_poll(self, *args, **kwargs):
        if self.returncode is None and self.pid is not None:
            self.returncode = self._ended()
        return self.returncode

    def _ended(self):
        """What the kernel says, though the loop may not have had the time to hear it. The watcher does the reaping."""
        try:
            info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            # Reaped; the news are on their way.
            if getcurrent() is not get_hub_if_exists():
                sleep(0.00001)
            return self.returncode
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def _wait(self, timeout):
        if self.returncode is None:
            self.result.wait(timeout)
            if self.returncode is None:
                raise TimeoutExpired(self.args, timeout)
        return self.returncode

    def wait(self, timeout=None, _raise_exc=True):
        """Waits for the end; TimeoutExpired if it does not come within the timeout."""
        try:
            return super().wait(timeout)
        except TimeoutExpired:
            if _raise_exc:
                raise
            return self.returncode

    # ---- talking to it ----

    def communicate(self, input=None, timeout=None):
        """Sends input, reads to the end of both outputs, waits for the end. Returns (stdout, stderr)."""
        talk = self._communicating_greenlets
        if talk is None:
            talk = self._communicating_greenlets = _Talk(self, input)
        elif input is not None:
            raise ValueError("Cannot send input after starting communication")
        end = None if timeout is None else time.monotonic() + timeout
        done = joinall(list(talk), timeout=timeout)
        for greenlet in done:
            greenlet.get()
        if len(done) == len(talk):
            try:
                self.wait(None if end is None else max(0, end - time.monotonic()))
            except TimeoutExpired:
                pass
            else:
                return talk.stdout and talk.stdout.result(), talk.stderr and talk.stderr.result()
        raise TimeoutExpired(
            self.args, timeout, output=talk.stdout and talk.stdout.so_far() or None,
            stderr=talk.stderr and talk.stderr.so_far() or None,
        )  # fmt: skip

    def __exit__(self, kind, value, tb):
        if self._communicating_greenlets is not None:
            self._communicating_greenlets.give_up()
        for file in self.stdout, self.stderr:
            if file:
                try:
                    file.close()
                except RuntimeError:
                    # Another greenlet is reading; it will see the end.
                    pass
        try:
            if self.stdin:
                self.stdin.close()
        finally:
            self.wait()


# ---- the functions: as in the standard module, which would use the Popen of its own ----


def run(*popenargs, input=None, capture_output=False, timeout=None, check=False, **kwargs):
    """Runs a command to its end, and returns a CompletedProcess."""
    if input is not None:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        kwargs["stdin"] = PIPE
    if capture_output:
        if kwargs.get("stdout") is not None or kwargs.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output.")
        kwargs["stdout"] = kwargs["stderr"] = PIPE
    with Popen(*popenargs, **kwargs) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except BaseException as problem:
            process.kill()
            # Not for the end of its output: its own children may hold the pipes for as long as they like.
            process.wait()
            if isinstance(problem, TimeoutExpired):
                problem.timeout = timeout
            raise
        code = process.poll()
        if check and code:
            raise CalledProcessError(code, process.args, output=stdout, stderr=stderr)
    return CompletedProcess(process.args, code, stdout, stderr)


def call(*popenargs, timeout=None, **kwargs):
    """Runs a command to its end, and returns its exit code."""
    with Popen(*popenargs, **kwargs) as process:
        try:
            return process.wait(timeout=timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise


def check_call(*popenargs, **kwargs):
    """Like call, but an exit code other than 0 is a CalledProcessError."""
    code = call(*popenargs, **kwargs)
    if code:
        command = kwargs.get("args")
        raise CalledProcessError(code, popenargs[0] if command is None else command)
    return 0


def check_output(*popenargs, timeout=None, **kwargs):
    """Runs a command and returns its output; an exit code other than 0 is a CalledProcessError."""
    for name in "stdout", "check":
        if name in kwargs:
            raise ValueError(f"{name} argument not allowed, it will be overridden.")
    if "input" in kwargs:
        if kwargs.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used.")
        if kwargs["input"] is None:
            # As before 3.5: nothing is sent, but there is a pipe.
            text = any(kwargs.get(name) for name in ("universal_newlines", "text", "encoding", "errors"))
            kwargs["input"] = "" if text else b""
    return run(*popenargs, stdout=PIPE, timeout=timeout, check=True, **kwargs).stdout


def getstatusoutput(cmd, *, encoding=None, errors=None):
    """(exit code, output) of a command for the shell; the last newline is left out."""
    try:
        output = check_output(cmd, shell=True, text=True, stderr=STDOUT, encoding=encoding, errors=errors)
        code = 0
    except CalledProcessError as problem:
        output, code = problem.output, problem.returncode
    return code, output[:-1] if output[-1:] == "\n" else output


def getoutput(cmd, *, encoding=None, errors=None):
    """The output of a command for the shell."""
    return getstatusoutput(cmd, encoding=encoding, errors=errors)[1]


def _gevent_did_monkey_patch(target_module, *args, **kwargs):
    if sys.version_info >= (3, 14):
        # A fork server's children would start without the patches.
        import multiprocessing

        multiprocessing.set_start_method("fork", force=True)


# Where this module was imported first, and its twin waited for that to be patched.
if "weald.monkey" in sys.modules:
    sys.modules["weald.monkey"]._complete("subprocess")
