#!/usr/bin/env python3
"""Reads the comments of include/weald.h as their reader would, and says what is missing.

    docs/comments.py            every function
    docs/comments.py --codes    prints each function with the codes that it names

A function's comment says whether it switches and what it fails with: the sentence "Fails with ..." names every code,
"Never fails" that there is none; a function that returns a pointer says what it returns instead.
"""
import re
import sys

import header

CODE = re.compile(r"\bWEALD_E(?:AI_)?[A-Z]+\b")
# What the header's head says of functions that need no hub, and so have not the hub's codes.
NO_HUB = "From any thread; does not switch"
HUB_CODES = ("WEALD_ENOMEM", "WEALD_EMFILE", "WEALD_ESHUTDOWN")
SWITCHES = re.compile(r"\b(?:does not|may) switch\b", re.I)
FAILS = re.compile(r"\bFails\b[^.]*? with (.*)", re.S)
# Words between backticks that are no parameters: keywords, and fields of structs that are not ours.
OTHER_WORDS = {"return", "revents"}


def main():
    book = header.read()
    if "--codes" in sys.argv[1:]:
        for item in functions(book):
            print(item.name, *sorted(codes_of(item)))
        return 0
    wrong = failures(book)
    print("\n".join([*wrong, f"{len(functions(book))} functions, {len(wrong)} failures"]))
    return 1 if wrong else 0


def functions(book):
    return [item for section in book.sections for item in section.items if item.kind == "function"]


def codes_of(item):
    """Every code that a function says it fails with, without the hub's."""
    fails = FAILS.search(" ".join(item.comment))
    return set(CODE.findall(fails[1])) if fails else set()


def needs_hub(item):
    """Whether it has the hub's codes as well."""
    return not returns_no_code(item) and NO_HUB not in " ".join(item.comment) and "Never fails" not in item.comment[0]


def may_switch(item):
    return "may switch" in " ".join(item.comment).lower()


def returns_no_code(item):
    result = item.code.split("(")[0]
    return "*" in result or result.startswith("void ")


def failures(book):
    names = {item.name for section in book.sections for item in section.items}
    handles = {item.name for section in book.sections for item in section.items
               if re.fullmatch(r"typedef int64_t \w+;", item.code)}
    fields = {name for section in book.sections for item in section.items if "struct" in item.code
              for name in re.findall(r"(\w+)[;)]", header.COMMENT.sub("", item.code))}
    wrong = []
    for section in book.sections:
        wrong += [f"{section.title}: {what}" for what in unknown(" ".join(section.intro), names)]
        for item in section.items:
            wrong += [f"{item.name}: {what}" for what in unknown(" ".join(item.comment), names)]
    for item in functions(book):
        wrong += [f"{item.name}: {what}" for what in complaints(item, names, handles, fields)]
    return wrong


def unknown(text, names):
    """Names that the header does not have; one that ends in "_" stands for all that begin so."""
    for word in re.findall(r"\b(?:weald|WEALD)_\w+", text):
        if word not in names and not (word.endswith("_") and any(name.startswith(word) for name in names)):
            yield f"speaks of {word}, which the header does not have"


def complaints(item, names, handles, fields):
    text = " ".join(item.comment)
    params = item.code.split("(", 1)[1]
    codes = codes_of(item)
    if len(text) < 20:
        yield "has no comment"
        return
    if len(SWITCHES.findall(text)) != 1:
        yield "says not once whether it switches"
    if returns_no_code(item):
        if not re.search(r"NULL|Never fails", text):
            yield "does not say what it returns when there is nothing to return"
    elif not codes and "Never fails" not in text and "the hub's codes alone" not in text:
        yield "does not say what it fails with"
    for code, count in counted(top_level(text)):
        if count > 1:
            yield f"lists {code} more than once"
    for word in re.findall(r"`\W*(\w+)[^`]*`", text):
        if not re.search(rf"\b{word}\b", params) and word not in fields | OTHER_WORDS | names:
            yield f"speaks of `{word}`, which is no parameter of it"
    if returns_no_code(item):
        return
    is_lenient = "handles that would be WEALD_EBADF" in text  # it passes over them
    if any(takes(params, handle) for handle in handles) and "WEALD_EBADF" not in codes and not is_lenient:
        yield "takes a handle and does not name WEALD_EBADF"
    if may_switch(item) and not {"WEALD_EPERM", "WEALD_EWOULDBLOCK"} <= codes:
        yield "may switch and does not name WEALD_EPERM and WEALD_EWOULDBLOCK"


def takes(params, handle):
    """Whether one of the parameters is such a handle, or an array of them; an output is none."""
    return re.search(rf"\b{handle} \w|\bconst {handle} \*", params)


def top_level(text):
    """The codes of its list, without what stands in parentheses."""
    fails = FAILS.search(text)
    return CODE.findall(re.sub(r"\([^()]*\)", "", fails[1])) if fails else []


def counted(words):
    return [(word, words.count(word)) for word in dict.fromkeys(words)]


if __name__ == "__main__":
    sys.exit(main())
