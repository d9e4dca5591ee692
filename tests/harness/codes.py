"""Suite `codes`: the C tests provoke every code that weald.h lists, and meet no other.

tests/codes.py writes a library that stands between the tests and weald and notes each code that is returned. The tests
themselves are judged by suite `c`; here they only run, all of them, whatever word was given.
"""
import sys

import codes
import weald_h
from . import build, ctests, process, tools

sys.path.insert(0, str(build.ROOT / "docs"))

import comments  # noqa: E402
import header as book  # noqa: E402

FOLDER = build.BUILT / "codes"
GENERATOR = build.ROOT / "tests" / "codes.py"

OF_HUB = "errors_hub"  # the program that provokes the hub's codes

# What no C test provokes on every machine, and why.
EXCUSED = {
    ("weald_dup", "WEALD_EOVERFLOW"): "it takes four thousand million references",
    ("weald_offload", "WEALD_EPANIC"): "it takes a job written in Rust; see src/threadpool.rs",
    ("weald_workers_start", "WEALD_ENOMEM"): "it takes a thousand threads",
    ("weald_pread", "WEALD_ENOMEM"): "it takes a thread that has memory while its hub has none",
    ("weald_pwrite", "WEALD_ENOMEM"): "as for weald_pread",
    ("weald_switch", "WEALD_ENOMEM"): "it takes a kernel in which guards are made late, 6.13 or newer",
    ("weald_wake", "WEALD_ENOMEM"): "as for weald_switch",
    **{(f"weald_{name}", "WEALD_ENOSYS"): "it takes another system than Linux on x86-64 with glibc"
       for name in ("patch_all", "patch_library", "patch_update", "patch_report", "unpatch")},
}
# Functions whose value may be a negative number although they have not failed.
TELL_NUMBERS = {"weald_kill_reason", "weald_error", "weald_value", "weald_hub_next_deadline"}


def run(report, options):
    with report.group("codes") as group:
        preload = FOLDER / "codes.so"
        kinds = (".c",) if tools.missing("g++") else (".c", ".cpp")
        tests = sorted(path for path in ctests.FOLDER.iterdir() if path.suffix in kinds)
        programs = [build.BUILT / "c" / path.stem for path in tests]
        for built in (_build(preload), *_compiled(options, tests, programs)):
            if built.status != 0:
                group.failed("compiles", built.output)
                return
        # What is seen of the hub's codes must not stand for the same codes from elsewhere.
        of_hub = [program for program in programs if program.stem == OF_HUB]
        others = [program for program in programs if program.stem != OF_HUB]
        _compare(group, _seen(options, preload, others), _seen(options, preload, of_hub))


def _compiled(options, tests, programs):
    return process.in_parallel(options.jobs, lambda pair: build.compile_program(*pair), list(zip(tests, programs)))


def _build(preload):
    preload.parent.mkdir(parents=True, exist_ok=True)
    source = preload.with_suffix(".c")
    made = process.run([sys.executable, GENERATOR, build.header(), source], 60)
    if made.status != 0:
        return made
    return process.run([build.CC, "-std=gnu11", *build.WARNINGS, "-O1", "-g", "-shared", "-fPIC",
                        f"-I{build.STAGE / 'include'}", source, "-ldl", "-o", preload], 120)


def _seen(options, preload, programs):
    """By function, the codes that it returned in some tests."""
    header, noted = weald_h.read(build.header()), FOLDER / "noted"
    noted.write_bytes(bytes(len(codes.functions(header)) * codes.PLACES))
    env = {"LD_PRELOAD": preload, "WEALD_CODES": noted}
    cases = [case for program in programs for case in _cases(program)]
    process.in_parallel(options.jobs, lambda case: process.run(case, options.limit, env, build.ROOT), cases)
    return codes.read(header, noted.read_bytes())


def _cases(program):
    listed = process.run([program, "--list"], 60)
    return [[program, line.split()[0]] for line in listed.output.splitlines() if line.strip()]


def _compare(group, seen, seen_of_hub):
    for item in comments.functions(book.read()):
        name = item.name
        if comments.returns_no_code(item):
            continue
        listed = comments.codes_of(item)
        never = sorted(code for code in listed - seen[name] if (name, code) not in EXCUSED)
        group.check(f"{name} is seen to fail with what it lists", not never, "never: " + " ".join(never))
        hub = set(comments.HUB_CODES) if comments.needs_hub(item) else set()
        # Its ENOMEM takes a thousand threads, which not every machine has.
        group.check(f"{name} is seen to fail with the hub's codes, or not", hub - {"WEALD_ENOMEM"} <= seen_of_hub[name],
                    f"in {OF_HUB} there was only: {sorted(seen_of_hub[name])}")
        # One that waits may return any code that it was interrupted with.
        if not comments.may_switch(item) and name not in TELL_NUMBERS:
            more = sorted((seen[name] | seen_of_hub[name]) - listed - hub)
            group.check(f"{name} is seen to fail with nothing else", not more, "not listed: " + " ".join(more))
