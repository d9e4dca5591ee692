"""Suite `soak`: the programs of tests/soak, everything at once for SOAK_SECONDS, shown as it goes; `soak:asan` under
AddressSanitizer, `soak:web` (or soak:soak) one of them."""
import os
import subprocess

from . import build, ctests, process

SOURCES = {"soak": "nothing_is_lost_and_nothing_grows", "web": "nothing_of_the_web_is_lost_and_nothing_grows"}
SECONDS = 600
PATIENCE = 120  # beyond that time: a session that does not end is dumped before


def run(report, options):
    flags, libdir, env = (), None, {}
    word = options.filter
    if word == "asan":
        libdir = ctests.sanitizer_library(report)
        if libdir is None:
            return
        flags, env = ctests.SANITIZE, ctests.SANITIZED
    wanted = [name for name in SOURCES if word in ("", "asan", name)]
    with report.group(f"soak:{word}" if word else "soak") as group:
        programs = {}
        for name in wanted:
            program = build.BUILT / ("asan" if word == "asan" else ".") / f"soak-{name}"
            compiled = build.compile_program(build.ROOT / "tests" / "soak" / f"{name}.c", program, flags, libdir)
            if compiled.status != 0 or compiled.output.strip():
                group.failed(f"{name} compiles", f"{compiled.story}\n{compiled.output}")
            else:
                programs[name] = program
        # Side by side: they are separate processes, and want their time.
        statuses = process.in_parallel(len(programs) or 1, lambda name: _run(programs[name], SOURCES[name], env), programs)
        for name, status in zip(programs, statuses):
            group.check(SOURCES[name], status == 0, f"exit status {status}; what it said stands above")


def _run(program, case, env):
    """Its lines go where ours go, as they come; a session of its own, so that no descendant is left behind."""
    seconds = int(os.environ.get("SOAK_SECONDS") or SECONDS)
    child = subprocess.Popen([program, case], env=process.merged(env), cwd=build.ROOT, start_new_session=True)
    try:
        return child.wait(seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        return 124
    finally:
        process.kill_group(child.pid)
        child.wait()
