"""The programs that a suite needs beyond cargo, a C compiler, make and python3; installed here where we may."""
import os
import shutil

from . import process
from .report import say

PACKAGES = {
    "pkg-config": "pkg-config",
    "cmake": "cmake",
    "g++": "g++",
    "valgrind": "valgrind",
    "nm": "binutils",
    "readelf": "binutils",
    "groff": "groff-base",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "slowhttptest": "slowhttptest",
    "openssl": "openssl",
    "curl": "curl",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}

_updated = False


def missing(*names):
    """Why a suite cannot run for want of these; "" if it can."""
    absent = [name for name in names if not _have(name)]
    return f"needs {', '.join(absent)}" if absent else ""


def _have(name):
    return bool(shutil.which(name)) or (_may_install(name) and _install(name))


def _may_install(name):
    return name in PACKAGES and os.geteuid() == 0 and shutil.which("apt-get")


def missing_library(name, package):
    """Why a library that pkg-config calls `name` can not be used; "" if it can."""
    def is_there():
        return process.run(["pkg-config", "--exists", name], 20).status == 0

    if not is_there():
        install_package(package)
    return "" if is_there() else f"needs {package}"


def install_package(package):
    """Where we may."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _apt_get(package, package)


def _install(name):
    _apt_get(PACKAGES[name], name)
    return bool(shutil.which(name))


def _apt_get(package, name):
    global _updated
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing {package} for {name}")
    if not _updated:
        process.run(["apt-get", "-q", "update"], 300, quiet)
        _updated = True
    done = process.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", package], 600, quiet)
    if done.status != 0:
        say(done.output)
