"""Suite `header`: weald.h compiles alone in every dialect, and says exactly what the library has; weald.hpp compiles in
every dialect, alone and in use."""
import re

import weald_h
from . import build, process, tools

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
DIALECTS = [("C99", "c", ["c99"]), ("C11", "c", ["c11"]), ("C23", "c", ["c23", "c2x"]),
            ("C++11", "c++", ["c++11"]), ("C++20", "c++", ["c++20", "c++2a"])]

# weald.hpp: the names of each standard, of which a compiler takes the first it knows.
HPP_STANDARDS = {"C++17": ["c++17"], "C++20": ["c++20", "c++2a"], "C++23": ["c++23", "c++2b"]}
# The suite `cpp` compiles and runs what g++ makes of C++17 and C++20.
HPP_USES = {build.CXX: [("C++23", "-fno-rtti")],
            "clang++": [("C++17", "-fno-rtti"), ("C++20", "-frtti"), ("C++23", "-fno-rtti")]}
# What others compile their programs with, and blame the header for.
PICKY = [*STRICT, "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Wnon-virtual-dtor", "-Woverloaded-virtual"]


def run(report, options):
    header = weald_h.read(build.header())
    with report.group("header") as group:
        for check in (_compiles_alone, _compiles_twice_with_every_macro, _symbols, _soname, _documented, _tested):
            if options.wants(check.__name__.strip("_")):
                check(group, header)
    with report.group("header:weald.hpp") as group:
        if options.wants("weald.hpp"):
            _hpp(group, options)


def _compiles_alone(group, header):
    for name, language, standards in DIALECTS:
        _compile(group, f"compiles alone as {name}", language, standards, "#include <weald.h>\n")


def _compiles_twice_with_every_macro(group, header):
    lines = ["#include <weald.h>", "#include <weald.h>", "int main(void) {"]
    lines += [f"  (void)({name});" for name in header.macros]
    lines += [f"  (void)({name}(1));" for name in header.function_macros]
    text = "\n".join(lines + ["  return 0;", "}"]) + "\n"
    for name, language, standards in DIALECTS:
        _compile(group, f"every macro compiles as {name}", language, standards, text)


def _compile(group, case, language, standards, text):
    reason = tools.missing("g++") if language == "c++" else ""
    if reason:
        group.skipped(case, reason)
        return
    source = build.BUILT / "header" / ("alone.cpp" if language == "c++" else "alone.c")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(text, encoding="utf-8")
    compiler = build.CXX if language == "c++" else build.CC
    for standard in standards:  # the name of the newest one differs by the compiler's age
        tried = process.run([compiler, f"-std={standard}", *STRICT, f"-I{build.STAGE / 'include'}", "-fsyntax-only",
                             source], 60)
        if tried.status == 0:
            break
    group.ran(case, tried)


def _symbols(group, header):
    reason = tools.missing("nm")
    if reason:
        group.skipped("symbols", reason)
        return
    listed = process.run(["nm", "-D", "--defined-only", build.library()], 60)
    exported = {line.split()[-1].split("@")[0] for line in listed.output.splitlines() if line.strip()}
    declared = {function.name for function in header.functions}
    group.check("has functions", len(declared) > 0)
    group.check("exported symbols are the header's functions", exported == declared,
                f"only in the library: {sorted(exported - declared)}\nonly in the header: {sorted(declared - exported)}")
    group.check("no function is declared twice", len(declared) == len(header.functions))


def _soname(group, header):
    reason = tools.missing("readelf")
    if reason:
        group.skipped("soname", reason)
        return
    shown = process.run(["readelf", "-d", build.library()], 60)
    group.check("soname is libweald.so.0", "[libweald.so.0]" in shown.output, shown.output)


def _documented(group, header):
    bare = [function.name for function in header.functions if len(function.comment) < 20]
    group.check("every function has a comment", not bare, "without one: " + " ".join(bare))


def _tested(group, header):
    """By name only: whether the test is any good is for its reader to say."""
    tests = build.ROOT / "tests"
    words = set()
    for path in [*tests.glob("c/*.c"), *tests.glob("c/*.cpp"), *tests.glob("*.rs")]:
        words |= set(re.findall(r"\bweald_\w+", path.read_text(encoding="utf-8")))
    missing = [function.name for function in header.functions if function.name not in words]
    group.check("every function is called in a test", not missing, "in no source of tests/: " + " ".join(missing))


def _hpp(group, options):
    """Alone with every warning on; and used by its tests and examples, which need not be as strict themselves."""
    alone = build.BUILT / "header" / "hpp.cpp"
    alone.parent.mkdir(parents=True, exist_ok=True)
    alone.write_text("#include <weald.hpp>\n#include <weald.hpp>\n", encoding="utf-8")
    users = [*sorted((build.ROOT / "tests" / "cpp").glob("*.cpp")),
             *sorted((build.ROOT / "bindings" / "cpp" / "examples").glob("*.cpp"))]
    cases = []
    for compiler, uses in HPP_USES.items():
        reason = tools.missing("g++" if compiler == build.CXX else compiler)
        every = [(standard, rtti) for standard in HPP_STANDARDS for rtti in ("-frtti", "-fno-rtti")]
        for what, dialects, flags, files in (("alone", every, PICKY, [alone]), ("in use", uses, STRICT, users)):
            for standard, rtti in dialects:
                case = f"{what} with {compiler} as {standard} {rtti}"
                if reason:
                    group.skipped(case, reason)
                else:
                    cases.append((case, compiler, HPP_STANDARDS[standard], [*flags, rtti], files))
    process.in_parallel(options.jobs, lambda case: group.ran(case[0], _syntax(*case[1:])), cases)


def _syntax(compiler, standards, flags, files):
    for standard in standards:
        tried = process.run([compiler, f"-std={standard}", *flags, "-pthread", f"-I{build.STAGE / 'include'}",
                             "-fsyntax-only", *files], 300)
        if tried.status == 0:
            break
    return tried
