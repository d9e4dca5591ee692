"""Suite `rust`: unit and integration tests, one process each, and the examples in the documentation.

`cargo test` would run the tests of a file in one process: a hung scheduler would take its neighbours with it, and fault
injection, which counts the calls of a whole process, would hit the wrong test. So cargo builds, and we run.
"""
import json
import re

from . import build, process
from .report import indent, say

FEATURES = ["fault-injection"]
RESULT = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")


def run(report, options):
    wanted = [name for name in FEATURES if build.has_feature(name)]
    features = ["--features", ",".join(wanted)] if wanted else []
    programs = _compile(report, features)
    if not programs:
        return
    for name, program in programs:
        _run_program(report, options, name, program)
    if not options.filter or options.filter in "doc":
        _run_doc(report, features)


def _compile(report, features):
    built = process.run([build.CARGO, "test", "--no-run", "--message-format=json-render-diagnostics", *features],
                        build.BUILD_LIMIT, {"CARGO_TARGET_DIR": build.TARGET}, build.ROOT)
    programs = []
    for line in built.output.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("profile", {}).get("test"):
            programs.append((message["target"]["name"], message["executable"]))
    if built.status != 0 or not programs:
        with report.group("rust") as group:
            words = [line for line in built.output.splitlines() if not line.startswith("{")]
            group.failed("compiles", "\n".join(words) or built.story)
        return []
    return sorted(programs)


def _run_program(report, options, name, program):
    def names(*extra):
        listed = process.run([program, "--list", "--format=terse", *extra], 60)
        return [line[:-len(": test")] for line in listed.output.splitlines() if line.endswith(": test")]

    ignored = set(names("--ignored"))
    with report.group(f"rust:{name}") as group:
        def one(case):
            if case in ignored:
                group.skipped(case, "ignored in the source")
                return
            group.ran(case, process.run([program, "--exact", case, "--test-threads=1"], options.limit,
                                        {"CARGO_MANIFEST_DIR": build.ROOT}, build.ROOT))

        process.in_parallel(options.jobs, one, [case for case in names() if options.wants(f"{name}::{case}")])


def _run_doc(report, features):
    tried = process.run([build.CARGO, "test", "--doc", *features], build.BUILD_LIMIT,
                        {"CARGO_TARGET_DIR": build.TARGET}, build.ROOT)
    count(report, "rust:doc", tried)


def count(report, name, result):
    """Takes over the counts of a `cargo test` that ran by itself."""
    with report.group(name) as group:
        totals = [tuple(map(int, found)) for found in RESULT.findall(result.output)]
        failed = sum(t[1] for t in totals)
        for i in range(sum(t[0] for t in totals)):
            group.passed(f"test {i + 1}")
        for i in range(sum(t[2] for t in totals)):
            group.skipped(f"test {i + 1}", "ignored in the source")
        for i in range(failed):
            group.failed(f"test {i + 1}", result.output if i == 0 else "(above)")
        if result.status != 0 and not failed:
            group.failed("runs", f"{result.story}\n{result.output}")
        elif not totals:
            say(indent(result.output))
            group.failed("runs", "no test result line")
