"""Builds the programs, and says which ones cannot be built and why.

Everything goes to target/bench/; the source tree stays as it is.
"""

import os
import re
import shutil
import subprocess
import sys

BENCHES = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(BENCHES)
OUT = os.path.join(ROOT, "target", "bench")
TARGET = os.path.abspath(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")))
LIBRARY = os.path.join(TARGET, "release")
COMPILERS = {"c": os.environ.get("CC", "cc"), "c++": os.environ.get("CXX", "c++")}


class Missing(Exception):
    """A program cannot be built here; the text says what is missing."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# ---- what is installed ----


def has_header(program):
    """Asks the preprocessor, which knows the include path better than we do."""
    source = f"#include <{program.header}>\n"
    command = [COMPILERS[program.language], "-E", "-x", program.language, "-"]
    try:
        return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def is_ready(program):
    if program.language == "go":
        return shutil.which("go") is not None
    return not program.header or has_header(program)


def apt_get(*words):
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    return subprocess.run(["apt-get", "-q", "-y", *words], env=env, capture_output=True).returncode == 0


def install(packages):
    """One try with the package lists as they are, one after an update."""
    words = ["install", "--no-install-recommends", *packages]
    return apt_get(*words) or (apt_get("update") and apt_get(*words))


def install_missing(programs):
    """Installs what is missing, where that is possible without asking anybody."""
    wanted = sorted({p for program in programs if not is_ready(program) for p in program.packages})
    if not wanted or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say("installing " + " ".join(wanted))
    if not install(wanted):
        for package in wanted:  # one unknown name must not cost us the others
            install([package])


# ---- recipes ----


def run(command, **more):
    try:
        done = subprocess.run(command, capture_output=True, text=True, **more)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed") from None
    if done.returncode:
        raise Missing(f"{command[0]} failed:\n{done.stderr.strip()[-2000:]}")


def newest(*paths):
    return max((os.path.getmtime(p) for p in paths if os.path.exists(p)), default=0)


def link_by_soname(library):
    """The name that the loader will look for; only an install would make it otherwise."""
    done = subprocess.run(["readelf", "-d", library], capture_output=True, text=True)
    soname = re.search(r"SONAME.*\[(.+)\]", done.stdout)
    link = os.path.join(OUT, soname.group(1) if soname else os.path.basename(library))
    if os.path.lexists(link):
        os.remove(link)
    os.symlink(library, link)


def build_c(program, out):
    source = os.path.join(BENCHES, program.source)
    inputs = [source, os.path.join(BENCHES, "bench.h"), os.path.abspath(__file__)]
    flags = ["-O2", "-std=gnu11"] if program.language == "c" else ["-O2", "-std=c++17"]
    if "weald" in program.libraries:
        include = os.path.join(ROOT, "include")
        inputs.append(os.path.join(include, "weald.h"))
        flags += ["-I" + include, "-L" + LIBRARY, "-Wl,-rpath," + OUT]
        link_by_soname(os.path.join(LIBRARY, "libweald.so"))
    if newest(out) > newest(*inputs):
        return
    libraries = ["-l" + name for name in program.libraries]
    run([COMPILERS[program.language], *flags, "-o", out, source, *libraries])


def build_go(program, out):
    env = dict(os.environ, GOCACHE=os.path.join(OUT, "go-cache"), GOTOOLCHAIN="local")
    run(["go", "build", "-o", out, "."], cwd=os.path.join(BENCHES, program.source), env=env)


def cargo(directory, target):
    """cargo knows itself whether there is anything to do."""
    run(["cargo", "build", "--release", "--locked"], cwd=directory,
        env=dict(os.environ, CARGO_TARGET_DIR=target))


def build_rust(program, out):
    target = os.path.join(OUT, "rust")
    cargo(os.path.join(BENCHES, "rust"), target)
    shutil.copy2(os.path.join(target, "release", program.name), out)


def path(program):
    return os.path.join(OUT, program.name)


def build(program):
    """Returns the path of the executable, or raises Missing."""
    if not is_ready(program):
        raise Missing("install " + (" ".join(program.packages) or f"its {program.header} from source"))
    out = path(program)
    if "weald" in program.libraries:
        cargo(ROOT, TARGET)
    {"c": build_c, "c++": build_c, "go": build_go, "rust": build_rust}[program.language](program, out)
    return out


def build_all(peers, client, may_install):
    """Returns {peer name: executable} of those that could be built, and {peer name: why not}.
    The client of all servers is built as well.
    """
    os.makedirs(OUT, exist_ok=True)
    programs = {peer.program.name: peer.program for peer in peers}
    if may_install:
        install_missing(programs.values())
    built, missing = {}, {}
    build(client)
    for name, program in programs.items():
        say(f"building {name}")
        try:
            built[name] = build(program)
        except Missing as why:
            missing[name] = str(why)
    of = lambda table: {p.name: table[p.program.name] for p in peers if p.program.name in table}
    return of(built), of(missing)
