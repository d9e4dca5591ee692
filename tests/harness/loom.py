"""Suite `loom`: the thread-crossing parts under every interleaving that loom can think of."""
from . import build, process, rust


def run(report, options):
    if not (build.ROOT / "tests" / "loom.rs").exists():
        with report.group("loom") as group:
            group.skipped("all", "there is no tests/loom.rs")
        return
    # A folder of its own: the flag would make cargo build everything anew each time.
    env = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": build.TARGET / "loom", "CARGO_PROFILE_RELEASE_LTO": "off",
           "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
    words = [build.CARGO, "test", "--release", "--test", "loom"]
    built = process.run([*words, "--no-run"], build.BUILD_LIMIT, env, build.ROOT)
    if built.status != 0:
        with report.group("loom") as group:
            group.failed("compiles", built.output)
        return
    chosen = [options.filter] if options.filter else []
    # A model without a bound on preemptions may take days; one that takes minutes is a mistake.
    rust.count(report, "loom", process.run([*words, *chosen], 300, env, build.ROOT))
