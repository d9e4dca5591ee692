"""Suite `python`: the binding in bindings/python, built into its own environment and tested in it.

`make python` makes bindings/python/.venv. The tests are unittest modules, bindings/python/tests/test_*.py, a process
each; those that want other packages or servers install them, or are skipped and say why. gevent's own tests are not
here but in `make gevent-tests`, which the suite `gevent` runs for a few modules.
"""
import os
import re
import shutil
import sys

from . import build, process

PACKAGE = build.ROOT / "bindings" / "python"
PYTHON = PACKAGE / ".venv" / "bin" / "python"
TESTS = PACKAGE / "tests"
FILE_LIMIT = 900
LONGEST = ("test_packaging", "test_packages")  # these begin first
# Modules of gevent's own that a change must pass: what each part stands on.
GEVENT = "event queue semaphore greenlet local timeout pool hub select socket ssl pywsgi server_pywsgi subprocess monkey threading_2"

_CASE = re.compile(r"^(\w+) \(([\w.]+)\)(?:\n.*)?? \.\.\. (ok|FAIL|ERROR|skipped .*)$", re.M)


# Whether the interpreter can make an environment and build an extension.
_PROBE = """import ensurepip, os, sysconfig
assert os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')), 'there is no Python.h'"""


def missing():
    """What Python lacks for building the binding; "" if nothing. Installed where we may."""
    probe = process.run([sys.executable, "-c", _PROBE], 60)
    if probe.status != 0 and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in ["update"], ["install", "-y", "--no-install-recommends", "python3-venv", "python3-dev"]:
            process.run(["apt-get", "-q", *words], 600, {"DEBIAN_FRONTEND": "noninteractive"})
        probe = process.run([sys.executable, "-c", _PROBE], 60)
    return "" if probe.status == 0 else probe.output.strip().splitlines()[-1]


def make():
    """The package, in its environment."""
    command = ["make", "python", f"PYTHON={sys.executable}"]
    return process.run(command, build.BUILD_LIMIT, {"CARGO_TARGET_DIR": build.TARGET}, build.ROOT)


def _build(group):
    reason = missing()
    if reason:
        group.skipped("make python", reason)
        return False
    made = make()
    group.ran("make python", made)
    return made.status == 0


def run(report, options):
    with report.group("python") as group:
        if not _build(group):
            return
    # A word of the filter chooses files by name, or else cases.
    files = [file for file in sorted(TESTS.glob("test_*.py"))
             if not options.filter or options.wants(file.stem) or _has(file, options.filter)]
    files.sort(key=lambda file: file.stem not in LONGEST)
    process.in_parallel(options.jobs, lambda file: _run_file(report, file, options), files)


def _has(file, word):
    return re.search(rf"def test_\w*{re.escape(word)}", file.read_text(encoding="utf-8"))


def _run_file(report, file, options):
    with report.group(f"python/{file.stem}") as group:
        _run_cases(group, file, options)


def _run_cases(group, file, options):
    # What a test prints must not come between its name and its outcome: -b shows it for those that fail.
    words = [PYTHON, "-m", "unittest", "-v", "-b", file.stem]
    if options.filter and not options.wants(file.stem):
        words += ["-k", options.filter]
    done = process.run(words, FILE_LIMIT, {"PYTHONPATH": TESTS}, TESTS)
    cases = _CASE.findall(done.output)
    for name, where, outcome in cases:
        case = f"{where.split('.')[-2]}.{name}" if "." in where else name
        if outcome == "ok":
            group.passed(case)
        elif outcome.startswith("skipped"):
            group.skipped(case, outcome.removeprefix("skipped ").strip("'\""))
        else:
            group.failed(case, _section(done.output, name))
    if not cases or (done.status and not any(outcome in ("FAIL", "ERROR") for _, _, outcome in cases)):
        group.failed("runs to its end", f"{done.story}\n{done.output}")


def _section(output, name):
    """What unittest says of one failure."""
    found = re.search(rf"^(?:FAIL|ERROR): {name} .*?(?=^={{70}}|^-{{70}}\nRan |\Z)", output, re.M | re.S)
    return found.group(0) if found else output


def run_gevent(report, options):
    with report.group("gevent") as group:
        if not _build(group):
            return
        modules = options.filter.split(",") if options.filter else GEVENT.split()

        def one(module):
            words = [PYTHON, TESTS / "gevent_tests.py", "--no-build", "--no-own", module]
            group.ran(module, process.run(words, 400, cwd=build.ROOT))

        one(modules[0])  # and what they all need is there
        process.in_parallel(options.jobs, one, modules[1:])
