"""The library staged as a user would install it, and programs compiled against that stage."""
import os
from pathlib import Path

from . import process

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "target"
STAGE = TARGET / "stage"
BUILT = TARGET / "tests"
CERTIFICATES = BUILT / "certificates"
PLUGINS = BUILT / "plugins"

CARGO = os.environ.get("CARGO", "cargo")
CC = os.environ.get("CC", "cc")
CXX = os.environ.get("CXX", "g++")

WARNINGS = ["-Wall", "-Wextra"]
BUILD_LIMIT = 1800


def stage():
    """Builds and installs to target/stage."""
    return process.run(["make", "stage"], BUILD_LIMIT, {"CARGO_TARGET_DIR": TARGET}, ROOT)


def header():
    return STAGE / "include" / "weald.h"


def library():
    return STAGE / "lib" / "libweald.so"


def flags(*options):
    """What pkg-config says; None where it says nothing."""
    asked = process.run(["pkg-config", *options, "weald"], 20, {"PKG_CONFIG_PATH": STAGE / "lib" / "pkgconfig"})
    return asked.output.split() if asked.status == 0 else None


def compile_program(source, program, extra=(), libdir=None, limit=180, standard="c++17"):
    """A C or C++ (of that standard) program that uses the installed library, found again at run time."""
    program.parent.mkdir(parents=True, exist_ok=True)
    libdir = libdir or STAGE / "lib"
    found = flags("--cflags", "--libs") or [f"-I{STAGE / 'include'}", f"-L{libdir}", "-lweald"]
    language = [CXX, f"-std={standard}"] if source.suffix == ".cpp" else [CC, "-std=c11"]
    return process.run([*language, "-g", "-O1", *WARNINGS, "-pthread", *extra, source, f"-L{libdir}", *found,
                        f"-Wl,-rpath,{libdir}", "-o", program], limit)


def has_feature(name):
    inside = False
    for line in (ROOT / "Cargo.toml").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            inside = line.strip() == "[features]"
        elif inside and line.split("=")[0].strip() == name:
            return True
    return False


def certificates():
    """A folder with the certificates that tests of TLS need, made anew; what went wrong, or ""."""
    made = process.run([CARGO, "test", "--test", "certificates"], BUILD_LIMIT,
                       {"CARGO_TARGET_DIR": TARGET, "WEALD_CERTIFICATES": CERTIFICATES}, ROOT)
    return "" if made.status == 0 else f"{made.story}\n{made.output}"


# Libraries that tests load: their source in tests/c/plugins, and how they are linked.
PLUGINS_OF = {
    "blocking_lazy": ("blocking", ["-Wl,-z,lazy", "-Wl,-z,norelro"]),
    "blocking_now": ("blocking", ["-Wl,-z,relro,-z,now"]),
    "blocking_noplt": ("blocking", ["-fno-plt", "-Wl,-z,relro,-z,now"]),
    "blocking_fortified": ("blocking", ["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]),
    "blocking_sealed": ("blocking", ["-Wl,-z,relro,-z,now"]),
    "constructing": ("constructing", ["-Wl,-z,lazy"]),
}


def plugins():
    """Makes them; what went wrong, or ""."""
    PLUGINS.mkdir(parents=True, exist_ok=True)
    for name, (source, flags_of) in PLUGINS_OF.items():
        made = process.run([CC, "-std=c11", "-g", "-O1", *WARNINGS, "-shared", "-fPIC", *flags_of,
                            f"-Wl,-soname,{name}.so", ROOT / "tests" / "c" / "plugins" / f"{source}.c", "-ldl",
                            "-o", PLUGINS / f"{name}.so"], 60)
        if made.status != 0:
            return f"{made.story}\n{made.output}"
    return ""
