"""Requests that others have collected: those of gunicorn's source distribution, which is fetched when it is wanted."""

import subprocess
import sys
import tarfile

# What gunicorn refuses by limits and options of its own, which the server does not have.
OWN_LIMITS = ("LimitRequestLine", "LimitRequestHeaders")

# What gunicorn takes, and the server does not, and why.
STRICTER = {
    "004": "plus signs are no host",
    "005": "a fragment is for the client",
    "025": "gzip is not decoded",
    "025_line": "gzip is not decoded",
    "029": "identity is no coding",
    "030": "identity is no coding",
    "099": "its body is shorter than it says",
    "pp_01": "the PROXY protocol",
    "pp_02": "the PROXY protocol",
    "pp_04": "the PROXY protocol",
    "pp_05": "the PROXY protocol",
    "rfc9112_smuggle_gzip_chunked_01": "gzip is not decoded",
    "rfc9112_smuggle_te_identity_chunked_01": "identity is no coding",
    "rfc9112_target_absolute_userinfo_01": "a user in a target",
    "rfc9112_target_authority_connect_01": "CONNECT",
    "rfc9112_target_authority_ipv6_01": "CONNECT",
}


def fetch(folder):
    """The folder of the requests, or why it is not there."""
    found = sorted(folder.glob("gunicorn-*/tests/requests"))
    if found:
        return found[-1], ""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", "-d", str(folder),
               "gunicorn"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    archives = sorted(folder.glob("gunicorn-*.tar.gz"))
    if not archives:
        return None, "gunicorn's source can not be fetched: " + (done.stderr.strip().splitlines() or ["?"])[-1]
    with tarfile.open(archives[-1]) as archive:
        members = [m for m in archive.getmembers() if "/tests/requests/" in m.name]
        archive.extractall(folder, members, filter="data")
    return sorted(folder.glob("gunicorn-*/tests/requests"))[-1], ""


def read(path):
    """Lines are joined, and what stands for bytes becomes them."""
    text = path.read_bytes().replace(b"\n", b"")
    for name, byte in ((rb"\r\n", b"\r\n"), (rb"\0", b"\0"), (rb"\n", b"\n"), (rb"\t", b"\t")):
        text = text.replace(name, byte)
    parts = text.split(rb"\x")
    made = parts[0]
    for part in parts[1:]:
        try:
            made += bytes([int(part[:2], 16)]) + part[2:]
        except ValueError:
            made += rb"\x" + part
    return made


def refused_by_a_limit(path):
    text = path.with_suffix(".py").read_text(encoding="utf-8")
    return any(f"request = {name}" in text for name in OWN_LIMITS)
