#!/usr/bin/env python3
"""Compiles and runs every program in README.md, docs/*.md and the like, and compares what it prints with what the page says.

    docs/check.py                everything
    docs/check.py docs/guide.md  some pages
    docs/check.py header         the comments of include/weald.h, and docs/reference.md, which is made of them
    docs/check.py --list         what there is to check, one a line

A program is a block that opens with ```c program, or ```cpp program; a block right after it that opens with ```text
prints is what goes to stdout, line by line. Every C or C++ block must be a program, so that no snippet goes unread by a
compiler. It builds against the staged install (target/stage), or where there is none against the headers here and
target/release. Links between pages are followed. reference.md must be what reference.py writes, and the header's
comments what comments.py demands. Exit status 1 if anything fails.
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import comments
import header
import reference

ROOT = Path(__file__).resolve().parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SONAME = "libweald.so.0"
LIMIT = 60  # seconds for a program, and for compiling it
COMPILERS = {"c": os.environ.get("CC", "cc").split(), "cpp": [*os.environ.get("CXX", "c++").split(), "-std=c++17"]}
FLAGS = ["-Wall", "-Wextra", "-Werror", "-pthread"]

# Written from the header, which the tests compile in every dialect: its blocks are declarations, not programs.
REFERENCE = ROOT / "docs" / "reference.md"
HEADER = "header"  # on the command line: what is written from src/ffi

BLOCK = re.compile(r"^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s]+)\)")


def main():
    words = sys.argv[1:] or [HEADER, *map(name, all_pages())]
    if words == ["--list"]:
        print("\n".join([HEADER, *map(name, all_pages())]))
        return 0
    failures, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        flags = None
        for word in words:
            if word == HEADER:
                failures += of_header()
                continue
            page = Path(word).resolve()
            text = page.read_text(encoding="utf-8")
            failures += dead_links(page, text)
            if page == REFERENCE:
                continue
            for line, language, program, printed in programs(page, text, failures):
                count += 1
                flags = flags or library(Path(folder))
                wrong = run(Path(folder), flags, language, program, printed)
                if wrong:
                    failures.append(f"{name(page)}:{line}: {wrong}")
    for failure in failures:
        print(failure)
    print(f"{count} programs in {len(words)} pages, {len(failures)} failures")
    return 1 if failures else 0


def of_header():
    """What is wrong with the comments, and with the page that is made of them."""
    book = header.read()
    kept = REFERENCE.read_text(encoding="utf-8") if REFERENCE.exists() else ""
    failures = comments.failures(book)
    failures += [f"{item.name}: not in {name(REFERENCE)}" for item in comments.functions(book)
                 if f"\n### {item.name}\n" not in kept]
    if kept != reference.page(book):
        failures.append(f"{name(REFERENCE)} is not what include/weald.h says; `make header` writes it anew")
    return failures


def all_pages():
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")),
            *sorted((ROOT / "bindings").glob("*/README.md"))]


def name(path):
    return str(path.relative_to(ROOT))


def library(folder):
    """Flags for the staged install, or for a build that has not been staged."""
    stage = TARGET / "stage"
    if (stage / "lib" / SONAME).exists():
        return [f"-I{stage / 'include'}", f"-L{stage / 'lib'}", f"-Wl,-rpath,{stage / 'lib'}"]
    built = TARGET / "release" / "libweald.so"
    if not built.exists():
        sys.exit("docs/check.py: there is no library to check against; run make first")
    for link in (SONAME, "libweald.so"):
        (folder / link).symlink_to(built)
    return [f"-I{ROOT / 'include'}", f"-I{ROOT / 'bindings' / 'cpp'}", f"-L{folder}", f"-Wl,-rpath,{folder}"]


def programs(page, text, failures):
    """Line, language, source and expected output (None: not said) of each program of a page."""
    blocks = list(BLOCK.finditer(text))
    for block, after in zip(blocks, [*blocks[1:], None]):
        line = text.count("\n", 0, block.start()) + 1
        language, _, role = block["kind"].partition(" ")
        if language not in COMPILERS:
            continue
        if role != "program":
            failures.append(f"{name(page)}:{line}: a {language} block that is not marked as a program")
        else:
            yield line, language, block["text"], after["text"] if after and after["kind"] == "text prints" else None


def run(folder, flags, language, program, printed):
    """What is wrong with a program; None if nothing."""
    source, binary = folder / f"program.{language}", folder / "program"
    source.write_text(program, encoding="utf-8")
    compiler = COMPILERS[language]
    built, text = finish([*compiler, *FLAGS, source, *flags, "-lweald", "-o", binary])
    if built != 0:
        return f"does not compile\n{text}"
    status, text = finish([binary], errors=subprocess.DEVNULL)
    if status != 0:
        return f"ends with status {status} and prints\n{text}"
    if printed is not None and text != printed:
        return f"prints\n{text}and not\n{printed}"
    return None


def finish(command, errors=subprocess.STDOUT):
    try:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=errors, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"none: still running after {LIMIT} s", ""
    return done.returncode, done.stdout.decode("utf-8", "replace")


def dead_links(page, text):
    """Links to files that are not there, or to headings that nobody wrote."""
    dead = []
    for match in LINK.finditer(BLOCK.sub("", text)):
        place, _, heading = match["to"].partition("#")
        if "://" in place:
            continue
        file = (page.parent / place).resolve() if place else page
        if not file.exists() or (heading and heading not in anchors(file)):
            dead.append(f"{name(page)}: dead link {match['to']}")
    return dead


_anchors = {}


def anchors(file):
    if file not in _anchors:
        titles = re.findall(r"^#+ (.*)$", BLOCK.sub("", file.read_text(encoding="utf-8")), re.M)
        _anchors[file] = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    return _anchors[file]


if __name__ == "__main__":
    sys.exit(main())
