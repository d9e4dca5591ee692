"""Builds weald: the extension weald._core, and libweald.so beside it.

libweald is taken from the repository around this directory, where `cargo build --release` makes it when
it is not there yet. WEALD_LIB names a libweald.so that is to be used instead, WEALD_INCLUDE the directory
of its weald.h. Both are stripped of symbols, unless WEALD_KEEP_SYMBOLS is set.

A source distribution has the library's sources in libweald/, and builds them with cargo.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
ROOT = HERE / "libweald" if (HERE / "libweald").exists() else HERE.parent.parent
# What the library is built from.
LIBRARY = [
    "Cargo.toml", "Cargo.lock", "build.rs", "cbindgen.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "include",
    "src",
]  # fmt: skip
SONAME = "libweald.so.0"

if sys.version_info >= (3, 14):
    sys.exit("weald does not know the thread state of CPython 3.14 and later; see docs/python.md")


def version():
    text = (ROOT / "Cargo.toml").read_text() if (ROOT / "Cargo.toml").exists() else ""
    found = re.search(r'^version = "(.*)"', text, re.M)
    return found.group(1) if found else "0.1.0"


def library():
    """The path of libweald.so, built if need be."""
    if os.environ.get("WEALD_LIB"):
        return Path(os.environ["WEALD_LIB"])
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    lib = target / "release" / "libweald.so"
    if not lib.exists():
        subprocess.check_call(["cargo", "build", "--release", "--locked", "--lib"], cwd=ROOT)
    return lib


class Build(build_ext):
    def run(self):
        lib = library()
        links = Path(self.build_temp).resolve()
        links.mkdir(parents=True, exist_ok=True)
        for name in (SONAME, "libweald.so"):
            shutil.copyfile(lib, links / name)
        self.library_dirs = [str(links)]
        super().run()
        core = Path(self.get_ext_fullpath("weald._core")).resolve()
        target = core.parent / SONAME
        shutil.copyfile(lib, target)
        target.chmod(0o755)
        if not os.environ.get("WEALD_KEEP_SYMBOLS") and shutil.which("strip"):
            subprocess.call(["strip", "--strip-unneeded", str(target), str(core)])


class BuildPython(build_py):
    """Puts the .pth beside the package: with WEALD_AS_GEVENT=1 it has `import gevent` give weald."""

    PTH = "weald_as_gevent.pth"

    def run(self):
        super().run()
        if not getattr(self, "editable_mode", False):
            shutil.copyfile(HERE / self.PTH, Path(self.build_lib) / self.PTH)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), str(Path(self.build_lib) / self.PTH)]


class SourceDistribution(sdist):
    """Takes the library's sources along."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        for name in LIBRARY:
            target = Path(base_dir, "libweald", name)
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, target)


sources = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").glob("*.c"))
headers = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").glob("*.h"))

setup(
    version=version(),
    packages=["weald", *sorted(f"weald.{p.parent.relative_to(HERE / 'weald').as_posix().replace('/', '.')}"
                               for p in (HERE / "weald").rglob("__init__.py") if p.parent != HERE / "weald")],
    py_modules=["_weald_as_gevent", "_weald_pytest"],
    package_data={"weald": ["py.typed", "*.pyi"], "weald.resolver": ["*.pyi"]},
    ext_modules=[
        Extension(
            "weald._core",
            sources,
            depends=headers,
            include_dirs=[os.environ.get("WEALD_INCLUDE") or str(ROOT / "include")],
            libraries=["weald"],
            # Fast switches want no call through the PLT; and a thread that the interpreter ends is unwound.
            extra_compile_args=["-std=gnu11", "-O2", "-fexceptions", "-fvisibility=hidden", "-Wall", "-Wextra",
                                "-Wno-missing-field-initializers", "-Wno-cast-function-type",
                                "-fno-semantic-interposition", "-fno-plt"],
            extra_link_args=["-Wl,-rpath,$ORIGIN"],
        )
    ],
    cmdclass={"build_ext": Build, "build_py": BuildPython, "sdist": SourceDistribution},
)
