"""Suite `docs`: what docs/check.py checks, page by page, and that the package holds what it should."""
import sys

from . import build, process

CHECK = build.ROOT / "docs" / "check.py"
IN_PACKAGE = {"Cargo.toml", "README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "build.rs", "src/lib.rs",
              "src/c/thread.c", "include/weald.h"}


def run(report, options):
    with report.group("docs") as group:
        listed = process.run([sys.executable, CHECK, "--list"], 60)
        group.check("docs/check.py says what there is", listed.status == 0 and "header" in listed.output, listed.output)
        pages = [page for page in listed.output.split() if options.wants(page)] if listed.status == 0 else []
        process.in_parallel(options.jobs, lambda page: group.ran(page, _checked(page)), pages)
        if options.wants("package"):
            _package(group)


def _checked(page):
    return process.run([sys.executable, CHECK, page], 300, cwd=build.ROOT)


def _package(group):
    listed = process.run([build.CARGO, "package", "--list", "--allow-dirty", "--offline"], 120, cwd=build.ROOT)
    missing = IN_PACKAGE - set(listed.output.split())
    group.check("the package holds its licences, its texts and its source", listed.status == 0 and not missing,
                f"missing: {sorted(missing)}\n{listed.output}")
