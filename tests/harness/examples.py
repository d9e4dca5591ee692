"""Suite `examples`: every program of examples-c prints what examples-c/expected says.

NAME.out is what NAME prints to stdout. Its first lines may be directives: `# exit N` for another exit status than 0,
`# unordered` where the order of the lines is not part of the lesson.
"""
import re
import subprocess

from . import build, process

FOLDER = build.ROOT / "examples-c"


def run(report, options):
    names = sorted(path.stem for path in FOLDER.glob("*.c")) if FOLDER.is_dir() else []
    names = [name for name in names if options.wants(name)]
    with report.group("examples") as group:
        process.in_parallel(options.jobs, lambda name: _one(group, options, name), names)


def _one(group, options, name):
    program = build.BUILT / "examples" / name
    built = build.compile_program(FOLDER / f"{name}.c", program, ["-Wpedantic", "-Werror"])
    if built.status != 0:
        group.failed(f"{name} compiles", built.output)
        return
    expected = FOLDER / "expected" / f"{name}.out"
    if not expected.exists():
        group.failed(name, f"there is no examples-c/expected/{name}.out")
        return
    status, unordered, lines = _expectation(expected.read_text(encoding="utf-8"))
    try:
        done = subprocess.run([str(program)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=options.limit, cwd=str(FOLDER), check=False)
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
