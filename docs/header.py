"""Reads include/weald.h as a book: sections, and in each the declarations with their comments, in order.

The header is generated, so its shape is known: a section begins with a comment between two rules, its title and what
its functions have in common, and blank lines stand between declarations, each under its comment.
"""
import re
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Book = namedtuple("Book", "version about sections")  # about: the header's head, without its own title
Section = namedtuple("Section", "title intro items")
Item = namedtuple("Item", "kind name comment code")  # kind: function, type, macro; comment: a list of paragraphs

HEADING = re.compile(r"/\* -{40,}\n(.*?) \* -{40,} \*/\n", re.S)
COMMENT = re.compile(r"\s*/\*.*?\*/\n?", re.S)


def read():
    text = (ROOT / "include" / "weald.h").read_text(encoding="utf-8")
    about = paragraphs(COMMENT.match(text).group())[2:]
    body = text.split('extern "C" {\n#endif\n', 1)[1].rsplit("#ifdef __cplusplus", 1)[0]
    before, *parts = HEADING.split(body)
    sections = []
    for heading, declarations in zip(parts[::2], parts[1::2]):
        title, *intro = paragraphs(heading)
        sections.append(Section(title.rstrip("."), intro, list(_items(declarations))))
    # The macros above the first section belong to it: the version, spans of time.
    sections[0].items[:0] = _items(before)
    return Book(re.search(r'WEALD_VERSION "(.*?)"', text)[1], about, sections)


def paragraphs(comment):
    """The text of a comment, a paragraph or a point of a list (it begins with "- ") an entry."""
    lines = [re.sub(r"^\s*(/\*|\*/|\*)? ?", "", line) for line in comment.strip().removesuffix("*/").splitlines()]
    blocks = re.split(r"\n\n|\n(?=- )", "\n".join(line.rstrip() for line in lines))
    return [" ".join(block.split()) for block in blocks if block.strip()]


def _items(text):
    for block in re.split(r"\n\n+", text.strip("\n")):
        comment = COMMENT.match(block)
        code = block[comment.end():] if comment else block
        if code.startswith("#define"):
            yield from _macros(block)
        elif code.strip():
            yield _item(paragraphs(comment.group()) if comment else [], code.strip())


def _macros(block):
    """Constants stand together; only the first one of a table has a comment."""
    comment = COMMENT.match(block)
    said = paragraphs(comment.group()) if comment else []
    for line in block[comment.end() if comment else 0:].splitlines():
        yield Item("macro", re.match(r"#define (\w+)", line)[1], said, line)
        said = []


def _item(comment, code):
    if not code.startswith("typedef"):
        return Item("function", re.search(r"(weald_\w+)\(", code)[1], comment, code)
    pointer = re.search(r"\(\*(weald_\w+)\)", code)
    return Item("type", (pointer or re.search(r"(weald_\w+);$", code))[1], comment, code)
