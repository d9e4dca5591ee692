"""Part of suite `interop`: libraries that know nothing of greenlets, patched, in thirty greenlets of one thread, against
their real servers: hiredis and Redis, libpq and PostgreSQL, libcurl and Python's HTTP (plain, and with TLS)."""
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from . import build, process, tools

SOURCES = build.ROOT / "tests" / "interop"
GREENLETS = 30
LIMIT = 60
LOCALHOST = "127.0.0.1"


class Missing(Exception):
    """What a case can not do without."""


def run(report, options):
    cases = [case for case in CASES if options.wants(f"patched::{case.__name__}")]
    if not cases:
        return
    with report.group("interop:patched") as group:
        for case in cases:
            try:
                case()
                group.passed(case.__name__)
            except Missing as reason:
                group.skipped(case.__name__, str(reason))
            except (AssertionError, OSError, subprocess.SubprocessError) as trouble:
                group.failed(case.__name__, f"{type(trouble).__name__}: {trouble}")


def program(name, library, package):
    """Compiled against the library as pkg-config knows it."""
    reason = tools.missing("pkg-config") or tools.missing_library(library, package)
    if reason:
        raise Missing(reason)
    flags = process.run(["pkg-config", "--cflags", "--libs", library], 20).output.split()
    path = build.BUILT / "interop" / name
    built = build.compile_program(SOURCES / f"{name}.c", path, ["-Wl,--no-as-needed", *flags])
    assert built.status == 0, built.output
    return path


def ran(path, *words):
    done = process.run([path, *words], LIMIT)
    assert done.status == 0, f"{done.story}\n{done.output}"
    assert f"{GREENLETS} greenlets waited together" in done.output, done.output
    return done.output


def parked(output, library, function):
    """How many calls of a library's waited, as the report says."""
    here, most = False, 0
    for line in output.splitlines():
        if line.startswith("  ") and not line.startswith("    "):
            here = line.strip().startswith(library)
        elif here and line.strip().startswith(f"{function}:"):
            most = int(line.split(",")[2].split()[0])
    return most


def free_port():
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        return free.getsockname()[1]


@contextmanager
def server(command, port, says=b"", **how):
    """A program that listens and has said so, for as long as the block lasts."""
    with tempfile.TemporaryFile() as output:
        running = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, **how)
        try:
            for _ in range(1000):
                with socket.socket() as probe:
                    # Read where it is: the program's own writes go on behind what it wrote.
                    has_said = says in os.pread(output.fileno(), 1 << 16, 0)
                    if has_said and probe.connect_ex((LOCALHOST, port)) == 0:
                        break
                if running.poll() is not None:
                    output.seek(0)
                    raise Missing(f"{command[0]} does not run: {output.read().decode('utf-8', 'replace')[-300:]}")
                time.sleep(0.02)
            yield
        finally:
            running.terminate()
            running.wait()


def find(name, package, *folders):
    """The path of a server; installed where we may."""
    for _ in range(2):
        found = shutil.which(name) or next(
            (str(path / name) for folder in folders for path in sorted(Path("/").glob(folder)) if (path / name).exists()), None)
        if found:
            return found
        tools.install_package(package)
    raise Missing(f"needs {name}")


# ---- the cases ----

def thirty_greenlets_of_hiredis_wait_for_redis_together():
    redis, client = find("redis-server", "redis-server"), program("patched_hiredis", "hiredis", "libhiredis-dev")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        with server([redis, "--port", port, "--bind", LOCALHOST, "--save", "", "--appendonly", "no", "--dir", folder], port):
            output = ran(client, str(port))
    assert parked(output, "libhiredis", "read") + parked(output, "libhiredis", "recv") >= GREENLETS, output


def thirty_greenlets_of_libpq_wait_for_postgresql_together():
    where = "usr/lib/postgresql/*/bin"
    initdb, postgres = (find(name, "postgresql", where) for name in ("initdb", "postgres"))
    client, port = program("patched_libpq", "libpq", "libpq-dev"), free_port()
    folder = tempfile.mkdtemp(prefix="weald-")
    try:
        drop = []
        if os.geteuid() == 0:  # it refuses to run as root
            shutil.chown(folder, "postgres")
            drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        os.chmod(folder, 0o755)
        data = os.path.join(folder, "data")
        made = subprocess.run([*drop, initdb, "-D", data, "-U", "weald", "-A", "trust", "--no-sync"], capture_output=True,
                              text=True, timeout=120, cwd="/", check=False)
        if made.returncode:
            raise Missing(f"initdb: {made.stderr[-300:]}")
        with server([*drop, postgres, "-D", data, "-p", port, "-k", folder, "-c", "fsync=off", "-c",
                     f"listen_addresses={LOCALHOST}", "-c", "lc_messages=C"], port,
                    says=b"ready to accept connections", cwd="/"):
            for host in (LOCALHOST, folder):
                output = ran(client, f"host={host} port={port} user=weald dbname=postgres")
                assert parked(output, "libpq", "poll") >= GREENLETS, output
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Together(http.server.BaseHTTPRequestHandler):
    """Answers when all have asked."""
    barrier = None

    def do_GET(self):
        self.barrier.wait(LIMIT)
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"weald\n")

    def log_message(self, *_):
        pass


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 2 * GREENLETS
    daemon_threads = True


def _fetch(scheme, context, *certificates):
    client = program("patched_curl", "libcurl", "libcurl4-openssl-dev")
    _Together.barrier = threading.Barrier(GREENLETS)
    with _Server((LOCALHOST, 0), _Together) as listener:
        if context:
            listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            output = ran(client, f"{scheme}://localhost:{listener.server_address[1]}/", *map(str, certificates))
        finally:
            listener.shutdown()
            thread.join()
    assert parked(output, "libcurl", "poll") >= GREENLETS, output


def thirty_greenlets_of_libcurl_wait_for_a_server_together():
    _fetch("http", None)


def thirty_greenlets_of_libcurl_wait_for_a_server_with_tls_together():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(build.CERTIFICATES / "server.pem", build.CERTIFICATES / "server.key")
    _fetch("https", context, build.CERTIFICATES / "root.pem")


CASES = [thirty_greenlets_of_hiredis_wait_for_redis_together, thirty_greenlets_of_libpq_wait_for_postgresql_together,
         thirty_greenlets_of_libcurl_wait_for_a_server_together,
         thirty_greenlets_of_libcurl_wait_for_a_server_with_tls_together]
