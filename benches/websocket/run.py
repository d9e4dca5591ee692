#!/usr/bin/env python3
"""WebSocket and TLS echo servers side by side: the CPU that a server takes for an echo.

    run.py                 every row, three repetitions of three seconds, in turns
    run.py --quick         does every server still work?
    run.py --rows websocket-100 --seconds 5 --reps 5

The servers run on one core, the client (weald's own) on the others. Peers from PyPI and crates.io are built in
target/bench/websocket, OpenSSL's headers and cargo are the machine's; a server that can not be had is left out and named.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "target" / "bench" / "websocket"
STAGE = ROOT / "target" / "stage"
PYPI = ("picows", "websockets", "uvloop")
CRATE = """[package]
name = "tungstenite"
version = "0.0.0"
edition = "2024"

[[bin]]
name = "tungstenite"
path = "{source}"

[dependencies]
futures-util = {{ version = "0.3", default-features = false, features = ["sink", "std"] }}
tokio = {{ version = "1", features = ["rt", "net", "macros"] }}
tokio-tungstenite = "0.28"

[profile.release]
lto = "fat"
codegen-units = 1

[workspace]
"""

# Name, what the client does: kind, connections, bytes.
ROWS = {
    "websocket-100": ("WebSocket: 64 bytes, 100 connections", "websocket", 100, 64),
    "websocket-1000": ("WebSocket: 64 bytes, 1000 connections", "websocket", 1000, 64),
    "websocket-10k": ("WebSocket: 10 kB, 100 connections", "websocket", 100, 10_000),
    "tls-100": ("TLS: 64 bytes, 100 connections", "tls", 100, 64),
    "tls-16k": ("TLS: 16 kB, 100 connections", "tls", 100, 16_384),
}


def say(text):
    print(text, file=sys.stderr, flush=True)


def tried(*words, **more):
    return subprocess.run([str(w) for w in words], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          **more).returncode == 0


def build():
    """By kind and name, what starts the server; and what is missing."""
    OUT.mkdir(parents=True, exist_ok=True)
    cc, missing = os.environ.get("CC", "cc"), []
    weald = [f"-I{STAGE}/include", f"-L{STAGE}/lib", "-lweald", f"-Wl,-rpath,{STAGE}/lib"]
    subprocess.run(["make", "-C", str(ROOT), "stage"], check=True, stdout=subprocess.DEVNULL)
    for name in ("weald", "client"):
        subprocess.run([cc, "-O2", "-Wall", "-Wextra", HERE / f"{name}.c", *weald, "-o", OUT / name], check=True)
    files = [OUT / "both.pem", OUT / "both.pem"]
    certificates = {**os.environ, "WEALD_CERTIFICATES": str(OUT)}
    subprocess.run(["cargo", "test", "-q", "--test", "certificates"], check=True, cwd=ROOT, env=certificates,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    servers = {"websocket": {"weald": [OUT / "weald", "websocket"]}, "tls": {"weald": [OUT / "weald", "tls", *files]}}
    python = OUT / "venv" / "bin" / "python"
    if python.exists() or tried(sys.executable, "-m", "venv", OUT / "venv"):
        for name in PYPI:
            if not tried(python, "-c", f"import {name}") and not tried(python, "-m", "pip", "-q", "install", name):
                missing.append(name)
        for name in ("picows", "websockets"):
            if name not in missing:
                servers["websocket"][name] = [python, HERE / "peers.py", name]
        servers["tls"]["asyncio"] = [python, HERE / "peers.py", "asyncio", *files]
    crate = OUT / "tungstenite"
    crate.mkdir(exist_ok=True)
    (crate / "Cargo.toml").write_text(CRATE.format(source=HERE / "tungstenite.rs"), encoding="utf-8")
    if tried("cargo", "build", "--release", cwd=crate, env={**os.environ, "CARGO_TARGET_DIR": str(OUT / "cargo")}):
        servers["websocket"]["tungstenite"] = [OUT / "cargo" / "release" / "tungstenite"]
    else:
        missing.append("tungstenite")
    if tried(cc, "-O2", HERE / "openssl.c", "-lssl", "-lcrypto", "-o", OUT / "openssl"):
        servers["tls"]["openssl"] = [OUT / "openssl", *files]
    else:
        missing.append("openssl (libssl-dev)")
    return servers, missing


def cpu(pid):
    """Seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def once(command, row, options):
    """Microseconds of CPU for an echo, and echoes in a second."""
    _, kind, connections, size = ROWS[row]
    pin = ["taskset", "-c", str(options.core)]
    others = ",".join(str(c) for c in os.sched_getaffinity(0) if c != options.core) or str(options.core)
    server = subprocess.Popen([*pin, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        port = int(server.stdout.readline())
        words = [OUT / "client", kind, port, connections, options.seconds, size]
        client = subprocess.Popen(["taskset", "-c", others, *map(str, words)], stdout=subprocess.PIPE, text=True)
        client.stdout.readline()  # it goes
        before = cpu(server.pid)
        said = client.communicate(timeout=120)[0]
        took = cpu(server.pid) - before
        found = re.search(r"(\d+) echoes in (\d+) us, (\d+) failed", said)
        if not found or found[3] != "0":
            say(f"  {command[0]} {row}: {said.strip()}")
            return None
        n, us = int(found[1]), int(found[2])
        return took / n * 1e6, n / us * 1e6
    finally:
        server.kill()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="some of: " + ", ".join(ROWS))
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.reps = 1, 1
    servers, missing = build()
    for row in options.rows.split(",") if options.rows else ROWS:
        those = servers[ROWS[row][1]]
        runs = {name: [] for name in those}
        for _ in range(options.reps):
            for name, command in those.items():
                if got := once(command, row, options):
                    runs[name].append(got)
        cells = [f"{name} {statistics.median(c for c, _ in of):.2f} us ({statistics.median(r for _, r in of):.0f}/s)"
                 for name, of in runs.items() if of]
        print(f"{ROWS[row][0]:<40} " + "   ".join(cells), flush=True)
    for name in missing:
        print(f"{name} is left out: it can not be had")
    return 0


if __name__ == "__main__":
    sys.exit(main())
