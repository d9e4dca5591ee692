"""Suite `c`: tests/c against the installed library, one process a claim; suite `cpp`: tests/cpp, which use weald.hpp,
in two dialects; and all of them under ASan and valgrind."""
import os
import re

from . import build, process, tools

FOLDER = build.ROOT / "tests" / "c"
CPP_FOLDER = build.ROOT / "tests" / "cpp"
CPP_STANDARDS = ("c++17", "c++20")
CHECK_FAILED, TIME_IS_UP, FOUND = 1, 124, 99  # exit statuses of test.h, process.py, and valgrind
SUPPRESSIONS = build.ROOT / "tests" / "valgrind.supp"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
# Overflow tests want their own SIGSEGV; handlers of ASan's would come first. Locals stay on the greenlets' stacks,
# where the tests look for them. Leaks are for valgrind: ASan does not look into stacks that it did not make.
SANITIZED = {"ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:handle_segv=0:allow_user_segv_handler=1:"
                             "use_sigaltstack=0:allocator_may_return_null=1:exitcode=66",
             "UBSAN_OPTIONS": "print_stacktrace=1", "WEALD_TEST_UNDER": "asan"}
# An older valgrind says at length which new system calls it answers with ENOSYS. That is welcome: the library then
# takes the path of an older kernel.
ABOUT_SYSTEM_CALLS = re.compile(r"^--\d+-- .*\n", re.M)


class Source:
    """A test program: where it lies, and what it is called among those of its suite."""

    def __init__(self, path, label):
        self.path, self.label = path, label


def c_sources():
    return [Source(path, path.stem) for path in sorted(FOLDER.iterdir()) if path.suffix in (".c", ".cpp")]


def cpp_sources(prefix=""):
    return [Source(path, prefix + path.stem) for path in sorted(CPP_FOLDER.glob("*.cpp"))]


def all_sources():
    return c_sources() + cpp_sources("cpp/")


def run(report, options):
    _run(report, options, "c", c_sources(), build.BUILT / "c")


def run_older(report, options):
    """As on Linux 5.10: tests/older.c takes from the kernel what is newer."""
    launcher = build.BUILT / "older"
    built = process.run([build.CC, *build.WARNINGS, "-O1", "-g", FOLDER.parent / "older.c", "-o", launcher], 60)
    tried = process.run([launcher, "/bin/true"], 20) if built.status == 0 else built
    if tried.status != 0:
        with report.group("older") as group:
            group.failed("a kernel of an older sort", tried.output)
        return
    # The model has a clock of its own, in whose microseconds this kernel sleeps milliseconds.
    sources = [source for source in c_sources() if source.label != "model"]
    _run(report, options, "older", sources, build.BUILT / "c", prefix=[launcher])


def run_cpp(report, options):
    for standard in CPP_STANDARDS:
        _run(report, options, f"cpp ({standard})", cpp_sources(), build.BUILT / standard, ["-Wpedantic", "-Werror"],
             standard=standard)


def run_asan(report, options):
    """The test code instrumented; the library as it is, but for switches that tell ASan about the stacks."""
    libdir = sanitizer_library(report)
    if libdir is None:
        return
    _run(report, options, "asan", all_sources(), build.BUILT / "asan", SANITIZE, libdir, SANITIZED, slower=4)


def run_valgrind(report, options):
    reason = tools.missing("valgrind")
    if reason:
        with report.group("valgrind") as group:
            group.skipped("all", reason)
        return
    prefix = ["valgrind", "--quiet", f"--error-exitcode={FOUND}", "--leak-check=full", "--errors-for-leak-kinds=none",
              "--show-leak-kinds=definite", "--fair-sched=yes", "--num-callers=30", f"--suppressions={SUPPRESSIONS}"]
    env = {"WEALD_TEST_UNDER": "valgrind"}
    bare = _without_line_numbers()
    if bare:
        env["LD_LIBRARY_PATH"] = bare
    _run(report, options, "valgrind", all_sources(), build.BUILT / "c", env=env, prefix=prefix, slower=8)


def _without_line_numbers():
    """A folder with a library that has names only; or None. Line numbers are what valgrind takes most time to read, in
    each test anew; for what fails they are wanted."""
    folder = build.BUILT / "valgrind"
    folder.mkdir(parents=True, exist_ok=True)
    stripped = process.run(["strip", "--strip-debug", "-o", folder / "libweald.so.0", build.library()], 60)
    return folder if stripped.status == 0 else None


def _run(report, options, suite, sources, folder, flags=(), libdir=None, env=None, prefix=(), slower=1,
         standard="c++17"):
    wanted = [source for source in sources if options.may_want(source.label)]
    is_cpp = any(source.path.suffix == ".cpp" for source in wanted)
    reason = tools.missing("g++") if is_cpp else ""
    compiled = process.in_parallel(options.jobs, lambda source: None if reason and source.path.suffix == ".cpp" else
                                   build.compile_program(source.path, folder / source.label, flags, libdir,
                                                         standard=standard), wanted)

    for source, result in zip(wanted, compiled):
        with report.group(f"{suite}:{source.label}") as group:
            if result is None:
                group.skipped("all", reason)
            elif result.status != 0:
                group.failed("compiles", f"{result.story}\n{result.output}")
            else:
                if result.output.strip():
                    group.failed("compiles without warnings", result.output)
                run_cases(group, options, source.label, folder / source.label, env, prefix, slower)


def run_cases(group, options, stem, program, env=None, prefix=(), slower=1):
    """Every claim of one program that speaks the protocol of test.h."""
    env = env or {}
    listed = process.run([program, "--list"], 60, env)
    if listed.status != 0:
        group.failed("lists its tests", f"{listed.story}\n{listed.output}")
        return
    cases = [line.split() for line in listed.output.splitlines() if line.strip()]
    cases = [case for case in cases if options.wants(f"{stem}::{case[0]}")]

    def one(case):
        name, limit = case[0], int(case[1]) or options.limit
        done = process.run([*prefix, program, name], limit * slower, env, build.ROOT)
        done.output = ABOUT_SYSTEM_CALLS.sub("", done.output)
        if done.status == 0 and _leaks(done):
            done.status, done.story = FOUND, f"{done.story}, but memory was lost"
        if done.status == FOUND and "LD_LIBRARY_PATH" in env:
            with_lines = {name: value for name, value in env.items() if name != "LD_LIBRARY_PATH"}
            again = process.run([*prefix, program, name], limit * slower, with_lines, build.ROOT)
            done.output += f"\nOnce more, with line numbers:\n{again.output}"
        return done

    results = process.in_parallel(options.jobs, one, cases)
    for case, done in zip(cases, results):
        if slower > 1 and done.status in (CHECK_FAILED, TIME_IS_UP):
            # A checker is looking for bad memory, and slows some threads more than others. What was late in company
            # gets a second try alone; what the checker itself found does not.
            done = one(case)
        group.ran(case[0], done)


def _leaks(done):
    """Only in the test's own process: a forked child has lost the other threads, and with them what was theirs."""
    if re.search(r"^leaks: ", done.output, re.M):
        return False
    return bool(re.search(rf"^=={done.pid}==.* definitely lost", done.output, re.M))


def sanitizer_library(report):
    """A build in its own folder; without link-time optimisation, which is what takes the time."""
    target = build.TARGET / "asan"
    features = ["--features", "sanitizer"] if build.has_feature("sanitizer") else []
    built = process.run([build.CARGO, "build", "--release", *features], build.BUILD_LIMIT,
                        {"CARGO_TARGET_DIR": target, "CARGO_PROFILE_RELEASE_LTO": "off",
                         "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}, build.ROOT)
    if built.status != 0:
        with report.group("asan") as group:
            group.failed("library builds", built.output)
        return None
    libdir = target / "release"
    soname = libdir / "libweald.so.0"
    if not soname.is_symlink():
        os.symlink("libweald.so", soname)
    return libdir
