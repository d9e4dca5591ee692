"""Reads include/weald.h: the one place that knows what a prototype in it looks like.

The header is generated, so its shape is known: comments, #define lines, typedefs of handles, function pointers and
structs, and prototypes `type name(type name, ...);`. Nothing here is a C parser.
"""
import re
from collections import namedtuple

Function = namedtuple("Function", "name returns params comment")
Param = namedtuple("Param", "type name")
Header = namedtuple("Header", "functions handles callbacks structs macros function_macros codes")

BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.S)
PROTOTYPE = re.compile(r"^(?P<returns>[A-Za-z_][\w\s\*]*?[\s\*])(?P<name>weald_\w+)\((?P<params>[^;{}]*)\);", re.M)
CALLBACK = re.compile(r"^typedef (?P<returns>[\w\s\*]+?)\(\*(?P<name>weald_\w+)\)\((?P<params>[^;]*)\);", re.M)
HANDLE = re.compile(r"^typedef (?P<base>\w+) (?P<name>weald_\w+);", re.M)
STRUCT = re.compile(r"^typedef struct (?:\w+ )?\{(?P<body>.*?)^\} (?P<name>weald_\w+);", re.M | re.S)
CODE = re.compile(r"WEALD_E(?:AI_)?[A-Z]+")
MACRO = re.compile(r"^#define (?P<name>WEALD_\w+)(?P<params>\([^)]*\))? (?P<value>.+)$", re.M)


def read(path):
    with open(path, encoding="utf-8") as f:
        return parse(f.read())


def parse(text):
    bare = BLOCK_COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    macros = list(MACRO.finditer(text))
    return Header(
        functions=[_function(m, text) for m in PROTOTYPE.finditer(bare)
                   if not m["returns"].startswith("typedef")],
        handles=_handles(bare),
        callbacks={m["name"]: (m["returns"].strip(), params(m["params"])) for m in CALLBACK.finditer(bare)},
        structs={m["name"]: _fields(m["body"]) for m in STRUCT.finditer(bare)},
        macros=[m["name"] for m in macros if m["params"] is None],
        function_macros=[m["name"] for m in macros if m["params"] is not None],
        codes={m["name"]: int(m["value"].strip("()")) for m in macros if CODE.fullmatch(m["name"])},
    )


def _function(match, text):
    """The comment is the one that ends on the line above, in the text with its comments."""
    before = text[:match.start()].rstrip()
    comment = ""
    if before.endswith("*/"):
        comment = before[before.rindex("/*"):]
        if "-----" in comment:
            comment = ""
    returns = " ".join(match["returns"].replace("*", " * ").split())
    return Function(match["name"], returns.replace(" *", " *").strip(), params(match["params"]), comment)


def _handles(bare):
    """Names of types that are handles: the typedefs of int64_t, and those of such typedefs."""
    pairs = [(m["name"], m["base"]) for m in HANDLE.finditer(bare)]
    found = {name for name, base in pairs if base == "int64_t"}
    while True:
        more = {name for name, base in pairs if base in found} - found
        if not more:
            return found
        found |= more


def params(text):
    text = " ".join(text.split())
    if text in ("", "void"):
        return []
    return [_param(part.strip(), i) for i, part in enumerate(_split(text))]


def _param(text, index):
    pointer = re.match(r"^(.*\(\*)(\w*)(\)\(.*\))$", text)
    if pointer:
        return Param(pointer[1] + pointer[3], pointer[2] or f"p{index}")
    match = re.match(r"^(.*?[\s\*])(\w+)$", text)
    if not match:
        return Param(text, f"p{index}")
    return Param(" ".join(match[1].replace("*", " * ").split()), match[2])


def _split(text):
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return parts + [text[start:]]


def _fields(body):
    return [_param(" ".join(part.split()), i) for i, part in enumerate(body.split(";")) if part.strip()]
