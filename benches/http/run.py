#!/usr/bin/env python3
"""HTTP servers side by side: `wrk` asks, and the CPU that a server takes for a request is what counts.

    run.py                 every row, three repetitions of three seconds, in turns
    run.py --quick         does every server still work?
    run.py --rows keep-100 --seconds 5 --reps 5

The servers run on one core, the client on the others. It builds what it needs in target/bench/http, and installs wrk, ab,
nginx, libevent and Go with apt-get where it may; a server that can not be had is left out and named.
"""
import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OUT = ROOT / "target" / "bench" / "http"
STAGE = ROOT / "target" / "stage"
PACKAGES = {"wrk": "wrk", "ab": "apache2-utils", "nginx": "nginx-light", "go": "golang-go", "evhttp": "libevent-dev"}

# Name, what is asked for: wrk's options, or ab's; and the target of the first row: microseconds each.
ROWS = {
    "keep-1": ("13 bytes, 1 connection", ["wrk", "-c", "1"], "/"),
    "keep-100": ("13 bytes, 100 connections", ["wrk", "-c", "100"], "/"),
    "keep-1000": ("13 bytes, 1000 connections", ["wrk", "-c", "1000"], "/"),
    "10k-100": ("10 kB, 100 connections", ["wrk", "-c", "100"], "/10k"),
    "chunked-100": ("10 pieces of 100 bytes in chunks, 100 connections", ["wrk", "-c", "100"], "/chunked"),
    "close-100": ("13 bytes, 100 at a time, a connection each", ["wrk", "-c", "100", "-H", "Connection: close"], "/"),
    "ab": ("ab -n 10000 -c 100: HTTP/1.0, a connection each", ["ab", "-n", "10000", "-c", "100"], "/"),
}
POLLS = 5000
FLOOR = {"keep-1", "keep-100", "keep-1000"}

NGINX = """daemon off; worker_processes 1; error_log stderr crit; pid {out}/nginx.pid; worker_rlimit_nofile 4096;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; tcp_nodelay on; default_type text/plain; server_tokens off;
  client_body_temp_path {out}/b; proxy_temp_path {out}/p; fastcgi_temp_path {out}/f; uwsgi_temp_path {out}/u;
  scgi_temp_path {out}/s; open_file_cache max=10;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {out}/files; location = / {{ return 200 "Hello, World!"; }} }} }}
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def have(name):
    there = Path("/usr/include/event2/http.h").exists() if name == "evhttp" else shutil.which(name)
    if not there and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {PACKAGES[name]}")
        subprocess.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", PACKAGES[name]], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        there = Path("/usr/include/event2/http.h").exists() if name == "evhttp" else shutil.which(name)
    return bool(there)


def build():
    """By name, what starts the server; and what is missing."""
    OUT.mkdir(parents=True, exist_ok=True)
    subprocess.run(["make", "-C", str(ROOT), "stage"], check=True, stdout=subprocess.DEVNULL)
    cc, missing, servers = os.environ.get("CC", "cc"), [], {}

    def compiled(name, *flags):
        subprocess.run([cc, "-O2", "-Wall", "-Wextra", str(HERE / f"{name}.c"), *flags, "-o", str(OUT / name)], check=True)
        servers[name] = [str(OUT / name)]

    compiled("weald", f"-I{STAGE}/include", f"-L{STAGE}/lib", "-lweald", f"-Wl,-rpath,{STAGE}/lib")
    compiled("epoll")
    if have("evhttp"):
        compiled("evhttp", "-levent")
    else:
        missing.append("evhttp")
    if have("go"):
        done = subprocess.run(["go", "build", "-o", str(OUT / "go"), str(HERE / "main.go")], check=False,
                              env={**os.environ, "GO111MODULE": "off"}, capture_output=True, text=True)
        if done.returncode == 0:
            servers["go"] = [str(OUT / "go")]
    if "go" not in servers:
        missing.append("go")
    if have("nginx"):
        servers["nginx"] = None
    else:
        missing.append("nginx")
    return servers, missing


class Server:
    def __init__(self, name, command, core):
        env = {**os.environ, "GOMAXPROCS": "1"}
        pin = ["taskset", "-c", str(core)]
        if command:
            self.child = subprocess.Popen([*pin, *command], stdout=subprocess.PIPE, env=env)
            self.port = int(self.child.stdout.readline())
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (OUT / "files").mkdir(exist_ok=True)
        (OUT / "files" / "10k").write_bytes(b"x" * 10000)
        (OUT / "nginx.conf").write_text(NGINX.format(out=OUT, port=self.port), encoding="ascii")
        self.child = subprocess.Popen([*pin, "nginx", "-e", "stderr", "-c", str(OUT / "nginx.conf")],
                                      stderr=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            except OSError:
                time.sleep(0.05)

    def cpu(self):
        """Seconds, of the server and its workers."""
        total = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(stat.parent.name) == self.child.pid or int(fields[1]) == self.child.pid:
                total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.child.terminate()
        self.child.wait(10)


def once(name, command, row, options):
    """Microseconds of CPU for a request, and requests in a second."""
    _, client, target = ROWS[row]
    server = Server(name, command, options.core)
    try:
        url = f"http://127.0.0.1:{server.port}{target}"
        others = ",".join(str(c) for c in os.sched_getaffinity(0) if c != options.core) or str(options.core)
        if client[0] == "wrk":
            words = [*client, "-t", "1", "-d", f"{options.seconds}s", url]
        else:
            words = [*client, url]
        before, began = server.cpu(), time.monotonic()
        done = subprocess.run(["taskset", "-c", others, *words], capture_output=True, text=True, timeout=120, check=False)
        cpu, took = server.cpu() - before, time.monotonic() - began
        found = re.search(r"(\d+) requests in|Complete requests:\s+(\d+)", done.stdout)
        failed = re.search(r"Socket errors: (.*)|Non-2xx[^:]*: *([1-9].*)|Failed requests:\s+([1-9]\d*)", done.stdout)
        if not found or failed:
            say(f"  {name} {row}: {failed[0] if failed else done.stderr.strip()[:100]}")
        n = int(found[1] or found[2]) if found else 0
        return (cpu / n * 1e6, n / took) if n else None
    finally:
        server.stop()


def polls(name, command, options):
    """KiB for each of many requests that wait, and the milliseconds until all have their answers."""
    server = Server(name, command, options.core)
    clients = []

    def rss():
        with open(f"/proc/{server.child.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * 4

    try:
        # Those that have asked once and wait for nothing are not what is measured.
        before = rss()
        for _ in range(POLLS):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.sendall(b"GET /poll HTTP/1.1\r\nHost: oak\r\n\r\n")
            clients.append(client)
        time.sleep(0.5)
        each, cpu = (rss() - before) / POLLS, server.cpu()
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port)) as go:
            go.sendall(b"GET /go HTTP/1.1\r\nHost: oak\r\n\r\n")
            for client in clients:
                client.recv(1000)
        return each, (time.monotonic() - began) * 1e3, (server.cpu() - cpu) / POLLS * 1e6
    finally:
        for client in clients:
            client.close()
        server.stop()


def show_polls(servers, options):
    import resource
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < POLLS + 100:
        say(f"the polls are left out: {most} descriptors are too few")
        return
    cells = []
    for name, command in servers.items():
        if name in ("epoll", "nginx"):
            cells.append("-")
            continue
        runs = [polls(name, command, options) for _ in range(options.reps)]
        each, took, cpu = (statistics.median(column) for column in zip(*runs))
        cells.append(f"{each:.1f}K {took:.0f}ms {cpu:.0f}us")
    print(f"{f'{POLLS} long polls: RSS each, time to tell all, CPU each':<52}" + "".join(f"{c:>18}" for c in cells), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="some of: " + ", ".join([*ROWS, "polls"]))
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.reps = 1, 1
    rows = options.rows.split(",") if options.rows else [*ROWS, "polls"]
    with_polls = "polls" in rows
    rows = [row for row in rows if row in ROWS]
    servers, missing = build()
    clients = {"wrk", "ab"} & {ROWS[row][1][0] for row in rows}
    for client in sorted(clients):
        if not have(client):
            missing.append(client)
            rows = [row for row in rows if ROWS[row][1][0] != client]
    print(f"{'CPU each, us (requests/s)':<52}" + "".join(f"{name:>18}" for name in servers))
    for row in rows:
        able = [n for n in servers if (n != "epoll" or row in FLOOR) and (n != "nginx" or row != "chunked-100")]
        runs = {name: [] for name in able}
        for _ in range(options.reps):
            for name in able:
                if got := once(name, servers[name], row, options):
                    runs[name].append(got)
        cells = []
        for name in servers:
            of = runs.get(name)
            cells.append(f"{statistics.median(c for c, _ in of):.2f} ({statistics.median(r for _, r in of):.0f})" if of else "-")
        print(f"{ROWS[row][0]:<52}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    if with_polls:
        show_polls(servers, options)
    for name in missing:
        print(f"{name} is left out: it is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
