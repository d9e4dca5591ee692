"""Suite `fault`: every system call of the installed library fails once, in every place.

tests/fault/preload.c makes the n-th call of one kind fail; tests/fault/scenarios.c does one thing each, accepts a code
when a call failed under it, then wants the same thing to succeed and everything to be as before. For each scenario and
each kind of call, n goes up until the scenario ends without having met the fault.
"""
from . import build, process

FOLDER = build.ROOT / "tests" / "fault"
CALLS = ("mmap", "guard", "madvise", "process_madvise", "epoll_create1", "epoll_ctl", "eventfd", "timerfd_create",
         "pidfd_open", "pipe2", "fcntl", "pthread_create", "sigaction", "sigaltstack")
# Where madvise knows no guard pages, the library uses mprotect; that is tried as if on such a machine.
OLD_KERNEL = "guard:1+"
NOT_REACHED = 3
MOST = 300


def run(report, options):
    preload, program = build.BUILT / "fault" / "preload.so", build.BUILT / "fault" / "scenarios"
    with report.group("fault") as group:
        preload.parent.mkdir(parents=True, exist_ok=True)
        for built in (process.run([build.CC, "-std=c11", *build.WARNINGS, "-O1", "-g", "-shared", "-fPIC", "-pthread",
                                   FOLDER / "preload.c", "-ldl", "-o", preload], 120),
                      build.compile_program(FOLDER / "scenarios.c", program,
                                            [f"-I{build.ROOT / 'tests' / 'c'}", "-ldl"])):
            if built.status != 0:
                group.failed("compiles", built.output)
                return
        names = [line.split()[0] for line in process.run([program, "--list"], 20).output.splitlines()]

        cases = [(name, call, "") for name in names for call in CALLS]
        cases += [(name, "mprotect", OLD_KERNEL) for name in names]
        cases = [case for case in cases if options.wants("::".join(case))]
        process.in_parallel(options.jobs, lambda case: _every_n(group, options, preload, program, *case), cases)


def _every_n(group, options, preload, program, name, call, machine):
    case = f"{name} with a failing {call}"
    for n in range(1, MOST):
        fault = ",".join(filter(None, [machine, f"{call}:{n}"]))
        done = process.run([program, name], options.limit, {"LD_PRELOAD": preload, "WEALD_FAULT": fault})
        if done.status == NOT_REACHED:
            if n > 1:
                group.passed(case)  # a scenario that never makes this call shows nothing
            return
        if done.status != 0:
            group.failed(case, f"{done.story} with LD_PRELOAD={preload} WEALD_FAULT={fault}\n{done.output}")
            return
    group.failed(case, f"still meets the fault at call {MOST}")
