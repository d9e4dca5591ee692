"""Suite `noise`: bad handles, NULL pointers and wild numbers into every exported function; see tests/noise.py."""
import sys

from . import build, ctests, process

GENERATOR = build.ROOT / "tests" / "noise.py"


def run(report, options):
    source, program = build.BUILT / "noise.c", build.BUILT / "noise"
    source.parent.mkdir(parents=True, exist_ok=True)
    with report.group("noise") as group:
        made = process.run([sys.executable, GENERATOR, build.header(), source], 60)
        if made.status != 0:
            group.failed("generates", made.output)
            return
        built = build.compile_program(source, program, [f"-I{build.ROOT / 'tests' / 'c'}"])
        if built.status != 0:
            group.failed("compiles", built.output)
            return
        ctests.run_cases(group, options, "noise", program)
