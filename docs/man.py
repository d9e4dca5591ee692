#!/usr/bin/env python3
"""Writes a man page for every function of include/weald.h, and weald(7).

    docs/man.py              writes them to target/man
    docs/man.py DIRECTORY    writes them there instead, as `make install` has it done
"""
import re
import sys
from pathlib import Path

import comments
import header

PLACE = header.ROOT / "target" / "man"
CODE = re.compile(r"\bWEALD_E(?:AI_)?[A-Z]+\b")
NAME = re.compile(r"\bweald_\w+")


def main():
    place = Path(sys.argv[1]) if sys.argv[1:] else PLACE
    pages = all_pages(header.read())
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("weald_*.3"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (place / name).write_text(text, encoding="utf-8")
    print(f"{len(pages)} pages in {place}")


def all_pages(book):
    functions = {item.name: (section, item) for section in book.sections for item in section.items
                 if item.kind == "function"}
    meanings = {item.name: " ".join(item.comment) for section in book.sections for item in section.items
                if CODE.fullmatch(item.name)}
    pages = {f"{name}.3": function_page(book, name, functions, meanings) for name in functions}
    return {**pages, "weald.7": overview(book, functions)}


# ---- a function's page -------------------------------------------------------------------------------------------

def function_page(book, name, functions, meanings):
    section, item = functions[name]
    codes = codes_of(item)
    described = [line for text in item.comment for line in paragraph(text, functions)]
    common = [line for text in section.intro for line in paragraph(text, functions)]
    out = [title(name, 3, book), ".SH NAME", f"{name} \\- {plain(summary(item.comment))}", ".SH SYNOPSIS", ".nf",
           ".B #include <weald.h>", ".PP", *synopsis(item.code), ".fi", ".PP",
           r"Compile and link with \fIpkg-config \-\-cflags \-\-libs weald\fR.", ".SH DESCRIPTION", *described[1:]]
    if codes:
        out += [".SH ERRORS"]
        for code in (code for code in meanings if code in codes):
            out += [".TP", rf"\fB{code}\fR", roff(meanings[code], functions)]
    if common:
        out += [".SH NOTES", *common[1:]]
    return "\n".join([*out, ".SH SEE ALSO", see_also(name, item.comment, functions)]) + "\n"


def summary(comment):
    """Its first clause, without asides, as NAME wants it."""
    text = re.sub(r" \([^()]*:[^()]*\)", "", comment[0].replace("`", ""))
    first = re.split(r"(?<=[\w)\"])[.:;](?: |$)", text, maxsplit=1)[0]
    return first if first[1:2].isupper() else first[0].lower() + first[1:]


def codes_of(item):
    """Every code that a function may fail with: those that it lists, and the hub's if it needs one."""
    return comments.codes_of(item) | set(comments.HUB_CODES if comments.needs_hub(item) else [])


def synopsis(code):
    return [rf"\fB{plain(line)}\fR" for line in code.splitlines()]


def see_also(name, comment, functions):
    named = dict.fromkeys(other for other in NAME.findall(" ".join(comment)) if other in functions and other != name)
    return ",\n".join([*(rf"\fB{other}\fR(3)" for other in named), r"\fBweald\fR(7)"])


# ---- weald(7) ------------------------------------------------------------------------------------------------------

def overview(book, functions):
    out = [title("weald", 7, book), ".SH NAME", r"weald \- green threads, an event hub and cooperative I/O for C",
           ".SH SYNOPSIS", ".nf", ".B #include <weald.h>", ".fi", ".PP",
           r"Compile and link with \fIpkg-config \-\-cflags \-\-libs weald\fR.", ".SH DESCRIPTION"]
    out += [line for text in book.about for line in paragraph(text, functions)][1:]
    for section in book.sections:
        out += [f'.SH "{plain(section.title.upper())}"']
        out += [line for text in section.intro for line in paragraph(text, functions)][1:]
        for item in section.items:
            if item.kind == "function":
                out += [".TP", f".BR {item.name} (3)", plain(summary(item.comment))]
    return "\n".join(out) + "\n"


# ---- roff ----------------------------------------------------------------------------------------------------------

def title(name, number, book):
    return f'.\\" Written by docs/man.py from include/weald.h.\n.TH {name} {number} "" "weald {book.version}" "weald"'


def plain(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def paragraph(text, functions):
    """One more, or a point of a list."""
    return [r".IP \(bu 2", roff(text[2:], functions)] if text.startswith("- ") else [".PP", roff(text, functions)]


def roff(text, functions):
    """Comment text: arguments in italics, functions with their section, codes in bold."""
    parts = re.split(r"(`[^`]*`)", text)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = rf"\fI{plain(part[1:-1])}\fR"
        else:
            part = re.sub(r"\bWEALD_[A-Z]\w*", lambda m: rf"\fB{m[0]}\fR", plain(part))
            parts[i] = NAME.sub(lambda m: reference(m, functions), part)
    return "".join(parts)


def reference(match, functions):
    """A name in running text; one with arguments behind it needs no section."""
    if match[0] not in functions:
        return rf"\fI{match[0]}\fR"
    return rf"\fB{match[0]}\fR" + ("" if match.string[match.end():match.end() + 1] == "(" else "(3)")


if __name__ == "__main__":
    main()
