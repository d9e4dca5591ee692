"""Runs a program under a time limit, with its output kept, and leaves no descendant behind."""
import os
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

LAST_WORDS = 3  # seconds between SIGQUIT, on which a C test dumps its greenlets, and SIGKILL


class Result:
    def __init__(self, command, status, output, seconds, limit=None, pid=0):
        self.command, self.status, self.output, self.seconds, self.pid = command, status, output, seconds, pid
        self.timed_out = limit is not None
        self.story = f"{' '.join(command)}: {self._end(limit)}"

    def _end(self, limit):
        if self.timed_out:
            return f"still running after {limit} s"
        if self.status < 0:
            return f"died by {signal.Signals(-self.status).name}"
        return f"exit status {self.status}"


def run(command, limit=60, env=None, cwd=None):
    command = [str(word) for word in command]
    began = time.monotonic()
    # A file, not a pipe: a grandchild that keeps a pipe open would make us wait for it.
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                     env=merged(env), cwd=cwd, start_new_session=True)
        except OSError as error:
            return Result(command, 127, str(error), 0)
        expired = None
        try:
            child.wait(limit)
        except subprocess.TimeoutExpired:
            expired = limit
            child.send_signal(signal.SIGQUIT)
            try:
                child.wait(LAST_WORDS)
            except subprocess.TimeoutExpired:
                pass
        kill_group(child.pid)
        status = child.wait()
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    return Result(command, status if expired is None else 124, text, time.monotonic() - began, expired, child.pid)


def kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def merged(env):
    if env is None:
        return None
    everything = dict(os.environ)
    everything.update({name: str(value) for name, value in env.items()})
    return everything


def in_parallel(jobs, work, items):
    """work(item) for all, `jobs` at a time; what they returned, in the order of the items."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        return list(pool.map(work, items))
