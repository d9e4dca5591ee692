"""Suite `soak`: tests/soak, everything at once for SOAK_SECONDS, shown as it goes; `soak:asan` under AddressSanitizer."""
import os
import subprocess

from . import build, ctests, process

SOURCE = build.ROOT / "tests" / "soak" / "soak.c"
CASE = "nothing_is_lost_and_nothing_grows"
SECONDS = 600
PATIENCE = 120  # beyond that time: a session that does not end is dumped before


def run(report, options):
    flags, libdir, env = (), None, {}
    if options.filter == "asan":
        libdir = ctests.sanitizer_library(report)
        if libdir is None:
            return
        flags, env = ctests.SANITIZE, ctests.SANITIZED
    name = f"soak:{options.filter}" if options.filter else "soak"
    program = build.BUILT / (options.filter or ".") / "soak"
    compiled = build.compile_program(SOURCE, program, flags, libdir)
    with report.group(name) as group:
        if compiled.status != 0 or compiled.output.strip():
            group.failed("compiles", f"{compiled.story}\n{compiled.output}")
            return
        status = _run(program, env)
        group.check(CASE, status == 0, f"exit status {status}; what it said stands above")


def _run(program, env):
    """Its lines go where ours go, as they come; a session of its own, so that no descendant is left behind."""
    seconds = int(os.environ.get("SOAK_SECONDS") or SECONDS)
    child = subprocess.Popen([program, CASE], env=process.merged(env), cwd=build.ROOT, start_new_session=True)
    try:
        return child.wait(seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        process.kill_group(child.pid)
        child.wait()
