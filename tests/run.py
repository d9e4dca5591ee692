#!/usr/bin/env python3
"""Runs the tests of weald. `make test` is this without arguments.

    tests/run.py                    every suite that a change must pass
    tests/run.py c                  one suite
    tests/run.py c:queue rust:timer some of its cases: those whose name contains the word
    tests/run.py older codes asan valgrind fuzz  the slower ones, which .ci/run runs as well
    tests/run.py soak               everything at once for SOAK_SECONDS (600); soak:asan under AddressSanitizer

It builds and stages the library first, installs what it needs where it may (as root, with apt-get), counts as skipped
what it cannot run, and ends with one line: N passed, N failed, N skipped. Exit status 1 if anything failed.
"""
import argparse
import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import (browser, build, codes, ctests, docs, examples, faults, fuzz, headers, http, install, interop,  # noqa: E402
                     loom, noise, python, rust, soak)
from harness.report import Report, indent, say, stop  # noqa: E402

SUITES = {
    "rust": rust.run,
    "header": headers.run,
    "docs": docs.run,
    "install": install.run,
    "c": ctests.run,
    "older": ctests.run_older,
    "cpp": ctests.run_cpp,
    "interop": interop.run,
    "examples": examples.run,
    "noise": noise.run,
    "python": python.run,
    "browser": browser.run,
    "gevent": python.run_gevent,
    "fault": faults.run,
    "http": http.run,
    "codes": codes.run,
    "asan": ctests.run_asan,
    "valgrind": ctests.run_valgrind,
    "loom": loom.run,
    "fuzz": fuzz.run,
    "soak": soak.run,
}
SLOW = ("older", "gevent", "codes", "asan", "valgrind", "loom", "fuzz", "soak")
LOAD_PLUGINS = ("c", "older", "asan", "valgrind", "codes")
SHAKE_HANDS = ("c", "older", "interop", "asan", "valgrind", "codes", "soak")
NEED_NO_STAGE = ("rust", "loom", "fuzz", "python", "gevent")


class Options:
    """What a suite needs to know of the command line."""

    def __init__(self, jobs, limit, word):
        self.jobs, self.limit, self.filter = jobs, limit, word

    def wants(self, case):
        return self.filter in case

    def may_want(self, label):
        """Whether a file can hold a wanted case: all can, unless the word names files."""
        return not self.filter or self.filter in label or not self._names_a_file()

    def _names_a_file(self):
        return any(self.filter in source.label for source in ctests.all_sources())


def hear_signals():
    """Who starts us in the background has us ignore some signals, and our tests would inherit that. What has a handler
    begins anew in each of them."""
    for signo in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(signo) == signal.SIG_IGN:
            signal.signal(signo, lambda *_: None)


def main():
    arguments = parse()
    hear_signals()
    # A test that dies on purpose should not leave a core file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    chosen = choose(arguments.suites)
    if any(name not in NEED_NO_STAGE for name, _ in chosen):
        say("building and staging the library")
        staged = build.stage()
        if staged.status != 0:
            say(indent(staged.output))
            stop("the library does not build")
    if any(name in SHAKE_HANDS for name, _ in chosen):
        trouble = build.certificates()
        if trouble:
            say(indent(trouble))
            stop("the certificates for the tests of TLS can not be made")
        os.environ["WEALD_CERTIFICATES"] = str(build.CERTIFICATES)
    if any(name in LOAD_PLUGINS for name, _ in chosen):
        trouble = build.plugins()
        if trouble:
            say(indent(trouble))
            stop("the libraries that tests load can not be made")
        os.environ["WEALD_PLUGINS"] = str(build.PLUGINS)
    report = Report()
    for name, word in chosen:
        SUITES[name](report, Options(arguments.jobs, arguments.limit, word))
    return report.close()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="SUITE[:WORD]", help="of: " + " ".join(SUITES))
    parser.add_argument("-j", "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="tests at a time")
    parser.add_argument("-t", "--limit", type=int, default=60, help="seconds that a test may take")
    return parser.parse_args()


def choose(words):
    if not words:
        return [(name, "") for name in SUITES if name not in SLOW]
    chosen = [tuple(word.partition(":")[::2]) for word in words]
    for name, _ in chosen:
        if name not in SUITES:
            sys.exit(f"no suite named {name}; there are: {' '.join(SUITES)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
