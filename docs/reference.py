#!/usr/bin/env python3
"""Writes docs/reference.md: every declaration of include/weald.h, section by section. docs/check.py compares it."""
import re
from pathlib import Path

import header

PAGE = Path(__file__).resolve().parent / "reference.md"


def main():
    PAGE.write_text(page(header.read()), encoding="utf-8")


def page(book):
    names = {item.name for section in book.sections for item in section.items if item.kind != "macro"}
    out = [f"# Reference: weald {book.version}", "",
           "<!-- Written by docs/reference.py from include/weald.h; a change begins in src/ffi. -->", ""]
    out += [line for p in book.about for line in (prose(p, names), "")]
    out += ["The sections:", ""]
    out += [f"- [{section.title}](#{anchor(section.title)})" for section in book.sections] + [""]
    for section in book.sections:
        out += [f"## {section.title}", ""]
        for paragraph in section.intro:
            out += [prose(paragraph, names), ""]
        out += [*macros(section, names), *declarations(section, names)]
    return "\n".join(out).rstrip() + "\n"


def macros(section, names):
    defined = [item for item in section.items if item.kind == "macro"]
    if not defined:
        return []
    rows = []
    for item in defined:
        value = item.code.split(item.name, 1)[1].strip()
        name, value = (item.name + value.split(" ", 1)[0], "") if value.startswith("(n)") else (item.name, value)
        said = " ".join(prose(p, names) for p in item.comment)
        rows.append(f"| `{name}` | {f'`{value}`' if value else ''} | {said} |")
    return ["| constant | value | |", "|---|---|---|", *rows, ""]


def declarations(section, names):
    for item in section.items:
        if item.kind != "macro":
            yield from (f"### {item.name}", "", "```c", item.code, "```", "")
            for paragraph in item.comment:
                yield from (prose(paragraph, names - {item.name}), "")


def prose(text, names):
    """Comment text as Markdown: names of other declarations become links; code stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    link = re.compile(r"\bweald_\w+")
    for i in range(0, len(parts), 2):
        parts[i] = link.sub(lambda m: f"[{m[0]}](#{m[0]})" if m[0] in names else m[0], parts[i])
    return "".join(parts)


def anchor(title):
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    main()
