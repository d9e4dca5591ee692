"""Runs one program once, pinned to one core, and says how quiet the machine was meanwhile."""

import glob
import os
import resource
import select
import subprocess
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
SETTLE = 1.5  # seconds for a program that said "ready" to clean up and go to sleep


@dataclass
class Run:
    metrics: dict
    failure: str = ""
    foreign: float = 0.0  # CPUs that others kept busy meanwhile, 1.0 is one core


# ---- noise ----


def machine_busy():
    """CPU seconds of the whole machine, stolen time included, without idle and iowait."""
    with open("/proc/stat") as f:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def children_busy():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wait_for_quiet(limit):
    """Waits until hardly anybody computes, at most `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = machine_busy()
        time.sleep(0.1)
        if machine_busy() - before < 0.03:
            return


class Noise:
    """How much of the machine others use, from here to `share`."""

    def __init__(self):
        self.start = time.monotonic(), machine_busy(), children_busy()

    def share(self):
        wall, busy, own = self.start
        wall, busy, own = time.monotonic() - wall, machine_busy() - busy, children_busy() - own
        # The kernel counts busy time in ticks: one of them either way says nothing.
        return max(0.0, busy - own - 1 / TICKS) / wall


# ---- programs ----


def start(command, env, core):
    return subprocess.Popen(command, env=dict(os.environ, **env), text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {core}))


def parse(text):
    """The "metric value" lines, and the reason of a FAIL line."""
    metrics, failure = {}, ""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "FAIL":
            failure = value
        elif value:
            metrics[name] = float(value)
    return metrics, failure


def run(command, env, core, timeout):
    noise = Noise()
    process = start(command, env, core)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Run({}, f"took more than {timeout:g} s", noise.share())
    metrics, failure = parse(out)
    if process.returncode and not failure:
        failure = f"exit {process.returncode}: " + " ".join(err.split())[:200]
    return Run(metrics, failure, noise.share())


# ---- idling ----


def activity(pid):
    """(wake-ups, CPU seconds) of all threads: a context switch can only follow a wake-up."""
    switches = nanoseconds = 0
    for task in glob.glob(f"/proc/{pid}/task/*"):
        with open(task + "/status") as f:
            switches += sum(int(line.split()[1]) for line in f if "ctxt_switches" in line)
        with open(task + "/schedstat") as f:
            nanoseconds += int(f.read().split()[0])
    return switches, nanoseconds


def says_ready(process, timeout):
    readable, _, _ = select.select([process.stdout], [], [], timeout)
    return bool(readable) and process.stdout.readline() == "ready\n"


def run_idle(command, env, core, seconds, settle=SETTLE):
    """Watches a sleeping program from outside, so that the watching wakes nobody."""
    noise = Noise()
    process = start(command, env, core)
    try:
        if not says_ready(process, 10):
            return Run({}, "it did not get ready")
        time.sleep(settle)
        before = activity(process.pid)
        time.sleep(seconds)
        after = activity(process.pid)
    finally:
        process.kill()
        process.communicate()
    wakeups, cpu = ((b - a) / seconds for a, b in zip(before, after))
    return Run({"wakeups": wakeups, "cpu": cpu / 1000}, "", noise.share())
