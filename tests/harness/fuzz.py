"""Suite `fuzz`: libFuzzer on the targets of fuzz/, FUZZ_SECONDS (60) each, under AddressSanitizer. Where that can not be
had it says so, and the same claims are asked for with plain noise.

Each target begins with what is kept in fuzz/corpus: a line of base64 for each input. FUZZ_KEEP=1 writes those anew, with
what was found this time, as few as cover the same.
"""
import base64
import os
import re
import shutil

from . import build, ctests, process, tools

FOLDER = build.ROOT / "fuzz"
CORPUS = FOLDER / "corpus"
WORK = build.TARGET / "fuzz"
SECONDS = int(os.environ.get("FUZZ_SECONDS") or 60)
LONGEST = 1000
KEPT = 200  # bytes: what takes more is found anew each time
# What `cargo fuzz` passes. They are stable but for the sanitizer, for which alone rustc must be talked to.
FLAGS = ["-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4",
         "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table",
         "-Cllvm-args=-sanitizer-coverage-trace-compares", "-Zsanitizer=address", "--cfg", "fuzzing"]
BOOTSTRAP = {"RUSTC_BOOTSTRAP": "1"}


def run(report, options):
    targets = sorted(path.stem for path in (FOLDER / "fuzz_targets").glob("*.rs"))
    wanted = [target for target in targets if options.wants(target)]
    with report.group("fuzz") as group:
        reason = _missing()
        if reason:
            group.skipped("libFuzzer", reason + ": plain noise instead")
            _noise(group, options)
            return
        triple = _triple()
        built = process.run([build.CARGO, "build", "--release", "--target", triple], build.BUILD_LIMIT,
                            {**BOOTSTRAP, "RUSTFLAGS": " ".join(FLAGS), "CARGO_TARGET_DIR": WORK}, FOLDER)
        if built.status != 0:
            group.failed("compiles", built.output)
            return
        programs = WORK / triple / "release"
        process.in_parallel(options.jobs, lambda target: _fuzz(group, target, programs / target), wanted)


def _triple():
    return re.search(r"^host: (\S+)", process.run(["rustc", "-vV"], 60).output, re.M)[1]


def _missing():
    """Why libFuzzer can not be had; or ""."""
    if reason := tools.missing("g++"):
        return reason
    if process.run([build.CARGO, "fetch"], 300, {"CARGO_TARGET_DIR": WORK}, FOLDER).status != 0:
        return "no libfuzzer-sys from crates.io"
    asked = process.run(["rustc", *FLAGS[:-2], "--target", _triple(), "--print", "sysroot"], 60, BOOTSTRAP)
    return "" if asked.status == 0 else "this rustc has no AddressSanitizer"


def _fuzz(group, target, program):
    corpus, artifacts = WORK / "corpus" / target, WORK / "artifacts" / target
    for folder in (corpus, artifacts):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    kept = CORPUS / f"{target}.txt"
    for i, line in enumerate(kept.read_text(encoding="ascii").split() if kept.exists() else []):
        (corpus / f"kept-{i}").write_bytes(base64.b64decode(line))
    done = process.run([program, corpus, f"-max_total_time={SECONDS}", f"-max_len={LONGEST}", "-timeout=20",
                        "-rss_limit_mb=2048", f"-artifact_prefix={artifacts}/"], SECONDS + 120, {})
    if done.status != 0:
        found = [f"the input, as a line for {kept}: {base64.b64encode(path.read_bytes()).decode()}"
                 for path in artifacts.iterdir()]
        done.output = "\n".join([*done.output.splitlines()[-60:], *found])
    group.ran(target, done)
    runs = re.search(r"Done (\d+) runs", done.output)
    if done.status == 0 and runs:
        group.check(f"{target}: something was tried", int(runs[1]) > 1000, runs[0])
    if done.status == 0 and os.environ.get("FUZZ_KEEP"):
        _keep(program, corpus, kept)


def _keep(program, corpus, kept):
    few = corpus.with_name(corpus.name + "-few")
    shutil.rmtree(few, ignore_errors=True)
    few.mkdir()
    process.run([program, "-set_cover_merge=1", few, corpus], 600, {})
    found = [path.read_bytes() for path in few.iterdir()]
    lines = sorted((base64.b64encode(one).decode() for one in found if len(one) <= KEPT), key=lambda t: (len(t), t))
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("".join(line + "\n" for line in lines), encoding="ascii")


def _noise(group, options):
    tried = process.run([build.CARGO, "test", "--test", "fuzz", options.filter, "--", "--nocapture"],
                        build.BUILD_LIMIT + 8 * SECONDS, {"WEALD_FUZZ_SECONDS": SECONDS, "CARGO_TARGET_DIR": build.TARGET},
                        build.ROOT)
    group.ran("noise", tried)
    build.stage()
    program = build.BUILT / "c" / "websocket"
    compiled = build.compile_program(ctests.FOLDER / "websocket.c", program)
    case = "damaged_frames_are_refused_or_taken_and_no_more"
    if group.check("websocket compiles", compiled.status == 0, compiled.output):
        group.ran(case, process.run([program, case], SECONDS + 60, {"FUZZ_SECONDS": SECONDS}, build.ROOT))
