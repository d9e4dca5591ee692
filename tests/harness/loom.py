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
    words = [options.filter] if options.filter else []
    rust.count(report, "loom", process.run([build.CARGO, "test", "--release", "--test", "loom", *words],
                                           build.BUILD_LIMIT, env, build.ROOT))
