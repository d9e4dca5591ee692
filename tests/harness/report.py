"""Counts what passed, failed and was skipped, and shows it as it happens.

A group is a line on the terminal (a test file, say); a case is one claim in it. Failures print their output at once and
their names again at the end.
"""
import sys
import threading
import time

OUTPUT_LINES = 60  # of a failure; the middle is left out
SLOW = 10  # seconds from which a case is named


class Report:
    def __init__(self):
        self.passed = 0
        self.failures = []
        self.skips = []
        self._lock = threading.Lock()

    def group(self, name):
        return Group(self, name)

    def add(self, name, outcome, text=""):
        with self._lock:
            if outcome == "passed":
                self.passed += 1
            elif outcome == "skipped":
                self.skips.append((name, text))
            else:
                self.failures.append(name)
                say(f"\nFAILED {name}")
                say(indent(text))

    def close(self):
        """The last words. The closing line stands alone, so that whoever calls us can read it."""
        if self.skips:
            say("\nskipped:")
            for name, reason in self.skips:
                say(f"  {name}: {reason}")
        if self.failures:
            say("\nfailed:")
            for name in self.failures:
                say(f"  {name}")
        say(f"\n{self.passed} passed, {len(self.failures)} failed, {len(self.skips)} skipped")
        return 1 if self.failures else 0


class Group:
    """One line: the name at the start, the counts and the time at the end."""

    def __init__(self, report, name):
        self.report, self.name = report, name
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.began = time.monotonic()
        self.slowest = (0.0, "")
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if sum(self.counts.values()):
            shown = ", ".join(f"{n} {what}" for what, n in self.counts.items() if n)
            seconds, case = self.slowest
            slow = f"  ({case}: {seconds:.0f} s)" if seconds > SLOW else ""
            say(f"{self.name:<34} {shown}  {time.monotonic() - self.began:.1f} s{slow}")

    def passed(self, case):
        self._add(case, "passed")

    def failed(self, case, text):
        self._add(case, "failed", text)

    def skipped(self, case, reason):
        self._add(case, "skipped", reason)

    def check(self, case, ok, text=""):
        """A case that is true or not."""
        self._add(case, "passed" if ok else "failed", text)
        return ok

    def ran(self, case, result):
        """A case that is a process: by its exit status, 77 for skipped."""
        self.slowest = max(self.slowest, (result.seconds, case))
        if result.status == 0:
            self.passed(case)
        elif result.status == 77:
            self.skipped(case, last_line(result.output).replace("skipped: ", ""))
        else:
            self.failed(case, f"{result.story}\n{result.output}")

    def _add(self, case, outcome, text=""):
        with self._lock:
            self.counts[outcome] += 1
        self.report.add(f"{self.name}::{case}", outcome, text)


def say(text):
    print(text, flush=True)


def last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no reason given"


def indent(text):
    lines = text.rstrip().splitlines()
    if len(lines) > OUTPUT_LINES:
        half = OUTPUT_LINES // 2
        lines = lines[:half] + [f"... {len(lines) - 2 * half} lines left out ..."] + lines[-half:]
    return "\n".join(f"  | {line}" for line in lines)


def stop(message):
    """Something without which no suite means anything."""
    say(message)
    say("\n0 passed, 1 failed, 0 skipped")
    sys.exit(1)
