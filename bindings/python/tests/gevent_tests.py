#!/usr/bin/env python3
"""Runs gevent's own tests, and greenlet's, on weald. `make gevent-tests MODULES="queue event"` is this.

    gevent_tests.py                 every module
    gevent_tests.py queue event     gevent.tests.test__queue and test__event
    gevent_tests.py greenlet:       greenlet.tests; greenlet:gc only its test_gc
    gevent_tests.py --list          the modules

The tests come from gevent's and greenlet's wheels and are never part of this repository: they are unpacked under
target/gevent-tests. There `import gevent` means weald; gevent itself is in a second environment, target/gevent-own,
where the same modules are run once for comparison. A module has a process of its own and a time limit.

Each module gets a line: passed, failed, errors, skipped, and in brackets gevent's own. What differs, and why, is in
docs/gevent-differences.md; a module named there may have what it says, and the exit status is 0 if nothing else fails.

The interpreter is that of bindings/python/.venv, unless this is run by another version of Python: then that one, in
environments of its own, target/gevent-3.12 and so on. `make gevent-tests PYTHON=python3.12` does it.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "bindings" / "python"
TARGET = ROOT / "target"
TESTS = TARGET / "gevent-tests"
# A debug build has environments of its own: its extensions are no other's.
VERSION = "{}.{}".format(*sys.version_info) + ("-debug" if hasattr(sys, "gettotalrefcount") else "")


def _versions():
    """The environment for weald, that for gevent, and what the files of results have in their names."""
    usual = PACKAGE / ".venv"
    found = [path.name.removeprefix("python") for path in usual.glob("lib/python3.*")]
    if not found or VERSION in found:
        return usual, TARGET / "gevent-own", ""
    return TARGET / f"gevent-{VERSION}" / "weald", TARGET / f"gevent-{VERSION}" / "gevent", f"-{VERSION}"


VENV, OWN, SUFFIX = _versions()
OWN_RESULTS = TESTS / f"own{SUFFIX}.json"
DIFFERENCES = ROOT / "docs" / "gevent-differences.md"
WHEELS = {"gevent": "26.9.0", "greenlet": "3.5.6"}
# What the tests import besides. psutil and zope are optional for weald, and make more of the tests run.
NEEDS = ["zope.interface", "zope.event", "psutil", "dnspython", "objgraph"]


class Result:
    """What a module gave."""

    def __init__(self, passed=0, failed=0, errors=0, skipped=0, seconds=0.0, note="", bad=()):
        self.passed, self.failed, self.errors, self.skipped = passed, failed, errors, skipped
        self.seconds, self.note, self.bad = seconds, note, list(bad)

    def counts(self):
        return self.passed, self.failed, self.errors, self.skipped

    @classmethod
    def read(cls, output, status, seconds):
        """From what unittest printed; a module that is a plain script passes or fails as one test."""
        ran = re.findall(r"^Ran (\d+) tests? in", output, re.M)
        if not ran:
            ok = status == 0
            note = "" if ok else f"status {status}"
            return cls(passed=int(ok), errors=int(not ok), seconds=seconds, note=note, bad=[] if ok else ["(script)"])
        total = sum(map(int, ran))
        sums = {"failures": 0, "errors": 0, "skipped": 0, "unexpected successes": 0, "expected failures": 0}
        for line in re.findall(r"^(?:OK|FAILED|NO TESTS RAN) \((.*)\)$", output, re.M):
            for name, number in re.findall(r"([a-z ]+)=(\d+)", line):
                sums[name.strip()] = sums.get(name.strip(), 0) + int(number)
        failed = sums["failures"] + sums["unexpected successes"]
        bad = re.findall(r"^(?:FAIL|ERROR): (\S+)", output, re.M)
        passed = max(0, total - failed - sums["errors"] - sums["skipped"])
        result = cls(passed, failed, sums["errors"], sums["skipped"], seconds, bad=dict.fromkeys(bad))
        # 5: all were skipped, from 3.12 on.
        if status not in (0, 5) and not failed and not sums["errors"]:
            result.errors += 1
            result.note = f"status {status}"
        return result


# ---- what is needed ----


def run(*command, **kwargs):
    subprocess.run([str(part) for part in command], check=True, **kwargs)


def prepare(build):
    """The environment with weald, the tests, and the environment with gevent."""
    if build or not (VENV / "bin" / "python").exists():
        run("make", "-s", "python", f"PYVENV={VENV}", f"PYTHON={sys.executable}", cwd=ROOT)
    python = VENV / "bin" / "python"
    probe = subprocess.run([python, "-c", "import zope.event, zope.interface, psutil, dns, objgraph"], capture_output=True)
    if probe.returncode:
        run(python, "-m", "pip", "install", "-q", *NEEDS)
    unpack(python)
    return python


def unpack(python):
    done = TESTS / "done"
    if done.exists() and done.read_text() == json.dumps(WHEELS):
        return
    shutil.rmtree(TESTS, ignore_errors=True)
    wheels = TESTS / "wheels"
    wheels.mkdir(parents=True)
    for name, version in WHEELS.items():
        run(python, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", wheels, f"{name}=={version}")
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            wanted = ("gevent/tests/", "gevent/testing/", "greenlet/tests/")
            archive.extractall(TESTS, [name for name in archive.namelist() if name.startswith(wanted)])
    done.write_text(json.dumps(WHEELS))


def prepare_own():
    python = OWN / "bin" / "python"
    if not python.exists():
        venv.create(OWN, with_pip=True)
        run(python, "-m", "pip", "install", "-q", *NEEDS, *(f"{name}=={version}" for name, version in WHEELS.items()))
    return python


def modules():
    """name: its file, for all that can be run."""
    found = {}
    for file in sorted((TESTS / "gevent" / "tests").glob("test_*.py")):
        found[file.stem.removeprefix("test__").removeprefix("test_")] = file
    for file in sorted((TESTS / "greenlet" / "tests").glob("test_*.py")):
        found["greenlet:" + file.stem.removeprefix("test_")] = file
    return found


def choose(words):
    everything = modules()
    if not words:
        return everything
    chosen = {}
    for word in words:
        matches = [name for name in everything if name == word or (word.endswith(":") and name.startswith(word))]
        if not matches:
            sys.exit(f"no module named {word}; --list shows them")
        chosen.update((name, everything[name]) for name in matches)
    return chosen


# ---- running ----


def run_module(python, name, file, limit, ours, log=None):
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("GEVENT", "PYTHON", "WEALD"))
    }
    environment["PYTHONUNBUFFERED"] = "1"
    if ours:
        environment.update(WEALD_AS_GEVENT="1", WEALD_GEVENT_TESTS=str(TESTS), PURE_PYTHON="1")
    if name.startswith("greenlet:"):
        command = [python, "-m", "unittest", "-v", "greenlet.tests." + file.stem]
    elif ours and "from . import" not in file.read_text():
        # Some import what lies beside them.
        command = [python, "-u", file]
    else:
        command = [python, "-u", "-m", "gevent.tests." + file.stem]
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=file.parent, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    timed_out = False
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    seconds = time.monotonic() - began
    text = output.decode(errors="replace")
    if log is not None:
        log.write_text(text)
    result = Result.read(text, process.returncode, seconds)
    if timed_out:
        result.errors += 1
        result.note = f"no end after {limit} s"
    return result


def own_results(chosen, limit, again):
    """gevent's own figures, measured once and kept."""
    known = json.loads(OWN_RESULTS.read_text()) if OWN_RESULTS.exists() else {}
    missing = [name for name in chosen if again or name not in known]
    if missing:
        python = prepare_own()
        for number, name in enumerate(missing, 1):
            print(f"gevent's own: {number}/{len(missing)} {name}", file=sys.stderr, flush=True)
            known[name] = run_module(python, name, chosen[name], limit, ours=False).counts()
            OWN_RESULTS.write_text(json.dumps(known, indent=0))
    return known


def excused():
    """module: tests that docs/gevent-differences.md explains, from its lines `| module | test, test | reason |`."""
    found = {}
    if DIFFERENCES.exists():
        for line in DIFFERENCES.read_text().splitlines():
            cells = [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
            if line.startswith("|") and len(cells) == 3 and not set(cells[0]) <= set("- "):
                tests = [word.strip(" `") for word in cells[1].split(",")]
                found.setdefault(cells[0], set()).update(tests)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("-t", "--limit", type=int, default=120, help="seconds that a module may take")
    parser.add_argument("--list", action="store_true", help="show the modules")
    parser.add_argument("--no-own", action="store_true", help="do not run gevent itself")
    parser.add_argument("--own-again", action="store_true", help="run gevent itself even if its figures are known")
    parser.add_argument("--no-build", action="store_true", help="take the environment as it is")
    arguments = parser.parse_args()
    python = prepare(not arguments.no_build)
    chosen = choose(arguments.modules)
    if arguments.list:
        print("\n".join(chosen))
        return 0
    own = {} if arguments.no_own else own_results(chosen, arguments.limit, arguments.own_again)
    if OWN_RESULTS.exists() and arguments.no_own:
        own = json.loads(OWN_RESULTS.read_text())
    reasons = excused()
    logs = TESTS / f"logs{SUFFIX}"
    logs.mkdir(exist_ok=True)
    totals, gevents, broken = [0, 0, 0, 0], [0, 0, 0, 0], []
    print(f"{'module':34} passed failed errors skipped   [gevent's own]       s")
    for name, file in chosen.items():
        result = run_module(python, name, file, arguments.limit, True, logs / (name.replace(":", "_") + ".log"))
        unexplained = [test for test in result.bad if test not in reasons.get(name, ())]
        if (result.failed or result.errors) and not result.bad:
            unexplained = [] if "(script)" in reasons.get(name, ()) else ["(script)"]
        their = own.get(name)
        mark = "" if not (result.failed or result.errors) else (" *" if unexplained else " explained")
        print(
            "{:34} {:6} {:6} {:6} {:7}   [{}] {:7.1f}{}{}".format(
                name, *result.counts(), " ".join(f"{count:4}" for count in their) if their else " not measured      ",
                result.seconds, mark, f" {result.note}" if result.note else "",
            ),
            flush=True,
        )  # fmt: skip
        for test in unexplained[:10]:
            print(f"    {test}", flush=True)
        if unexplained:
            broken.append(name)
        totals = [a + b for a, b in zip(totals, result.counts())]
        gevents = [a + b for a, b in zip(gevents, their or (0, 0, 0, 0))]
    print("{:34} {:6} {:6} {:6} {:7}   [{}]".format("all", *totals, " ".join(f"{count:4}" for count in gevents)))
    print(f"output of each module: {logs}")
    if broken:
        print("not explained: " + " ".join(broken))
    print(f"\n{len(chosen) - len(broken)} passed, {len(broken)} failed, 0 skipped")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
