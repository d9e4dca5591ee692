"""Suite `loom`: the thread-crossing parts under every interleaving that loom can think of."""
from . import build, process, rust

FOLDER = build.ROOT / "tests" / "loom"


def run(report, options):
    env = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": build.TARGET / "loom"}
    words = [build.CARGO, "test", "--release", "--test", "mailbox"]
    built = process.run([*words, "--no-run"], build.BUILD_LIMIT, env, FOLDER)
    if built.status != 0:
        with report.group("loom") as group:
            group.failed("compiles", built.output)
        return
    chosen = [options.filter] if options.filter else []
    # A model without a bound on preemptions may take days; one that takes minutes is a mistake.
    rust.count(report, "loom", process.run([*words, *chosen], 300, env, FOLDER))
