"""Suite `examples`: every program of examples-c and bindings/cpp/examples prints what the folder's expected/ says.

NAME.out is what NAME prints to stdout. Its first lines may be directives: `# exit N` for another exit status than 0,
`# unordered` where the order of the lines is not part of the lesson.
"""
import re
import subprocess

from . import build, process, tools

FOLDERS = [("examples", build.ROOT / "examples-c", "*.c"),
           ("examples:cpp", build.ROOT / "bindings" / "cpp" / "examples", "*.cpp")]


def run(report, options):
    for label, folder, pattern in FOLDERS:
        sources = [path for path in sorted(folder.glob(pattern)) if options.wants(path.stem)]
        reason = tools.missing("g++") if pattern == "*.cpp" and sources else ""
        with report.group(label) as group:
            if reason:
                group.skipped("all", reason)
            else:
                process.in_parallel(options.jobs, lambda source: _one(group, options, source), sources)


def _one(group, options, source):
    name = source.stem
    program = build.BUILT / "examples" / source.parent.parent.name / name
    built = build.compile_program(source, program, ["-Wpedantic", "-Werror"])
    if built.status != 0:
        group.failed(f"{name} compiles", built.output)
        return
    expected = source.parent / "expected" / f"{name}.out"
    if not expected.exists():
        group.failed(name, f"there is no {expected.relative_to(build.ROOT)}")
        return
    status, unordered, lines = _expectation(expected.read_text(encoding="utf-8"))
    try:
        done = subprocess.run([str(program)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=options.limit, cwd=str(source.parent), check=False)
    except subprocess.TimeoutExpired as late:
        group.failed(name, f"still running after {options.limit} s; so far it printed\n{_text(late.stdout)}")
        return
    printed = _text(done.stdout).splitlines()
    same = sorted(printed) == sorted(lines) if unordered else printed == lines
    group.check(name, same and done.returncode == status,
                f"exit status {done.returncode}, expected {status}\n--- expected\n" + "\n".join(lines) +
                "\n--- printed\n" + "\n".join(printed) + "\n--- stderr\n" + _text(done.stderr))


def _expectation(text):
    status, unordered, lines = 0, False, text.splitlines()
    while lines:
        exits = re.match(r"# exit (\d+)$", lines[0])
        if exits:
            status = int(exits[1])
        elif lines[0] == "# unordered":
            unordered = True
        else:
            break
        lines.pop(0)
    return status, unordered, lines


def _text(raw):
    return (raw or b"").decode("utf-8", "replace")
