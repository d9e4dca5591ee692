"""What the tests share: programs in processes of their own, servers on free ports, packages that are installed on demand."""
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest
from pathlib import Path

# Seconds that a program may take; machines that test are busy.
LIMIT = 60


# ---- programs ----


def environment(**more):
    """The environment of a child: the alias is on in it and in its children, and nothing else of ours."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GEVENT", "PYTHON", "WEALD"))}
    env.update(WEALD_AS_GEVENT="1", PYTHONUNBUFFERED="1")
    env.update({key: str(value) for key, value in more.items()})
    return env


class Done:
    """What a program did."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __repr__(self):
        return f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def command(source, *args, how="run"):
    """The command for a program given as text or as a file: `how` is run, monkey, or plain, without our command."""
    if isinstance(source, Path):
        file = source
    else:
        folder = Path(tempfile.mkdtemp(prefix="weald-program-"))
        file = folder / "program.py"
        file.write_text(textwrap.dedent(source))
    ways = {"run": ["-m", "weald", "run"], "monkey": ["-m", "weald.monkey"], "plain": []}
    return [sys.executable, *ways[how], str(file), *map(str, args)], file


def run(source, *args, how="run", limit=LIMIT, stdin=None, cwd=None, **env):
    """Runs a program to its end."""
    words, file = command(source, *args, how=how)
    try:
        process = subprocess.Popen(
            words, env=environment(**env), text=True, cwd=cwd or file.parent, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(stdin or "", timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += f"\nno end after {limit} s"
        return Done(process.returncode, out, err)
    finally:
        if not isinstance(source, Path):
            shutil.rmtree(file.parent, ignore_errors=True)


class TestCase(unittest.TestCase):
    """A test that runs programs."""

    maxDiff = None

    def succeeds(self, source, *args, **kwargs):
        """The lines that a program prints, which must end well."""
        done = run(source, *args, **kwargs)
        self.assertEqual(done.status, 0, done)
        return done.out.splitlines()

    def prints(self, expected, source, *args, **kwargs):
        """Runs a program that must end well and print this."""
        lines = self.succeeds(source, *args, **kwargs)
        self.assertEqual(lines, textwrap.dedent(expected).strip().splitlines())

    def serves(self, source, *args, port=None, **kwargs):
        """Starts a program that serves at `port`, and waits until it does. It is stopped after the test."""
        server = Server(source, *args, port=port, **kwargs)
        self.addCleanup(server.stop)
        server.wait()
        return server


class Server:
    """A program or a command that runs until it is stopped."""

    def __init__(self, source, *args, port, how="run", cwd=None, **env):
        self.port = port
        self._log = tempfile.TemporaryFile("w+")
        self._folder = None
        if isinstance(source, list):
            words = [str(word) for word in source]
        else:
            words, file = command(source, *args, how=how)
            if not isinstance(source, Path):
                self._folder = file.parent
            cwd = cwd or file.parent
        self.process = subprocess.Popen(
            words, env=environment(**env), cwd=cwd, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def output(self):
        self._log.seek(0)
        return self._log.read()

    def wait(self, limit=LIMIT):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with status {self.process.returncode}\n{self.output()}")
            for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
                with socket.socket(family) as probe:
                    probe.settimeout(1)
                    if probe.connect_ex((host, self.port)) == 0:
                        return
            time.sleep(0.05)
        raise AssertionError(f"does not listen after {limit} s\n{self.output()}")

    def stop(self):
        for sign in signal.SIGTERM, signal.SIGKILL:
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(5)
                break
            except subprocess.TimeoutExpired:
                pass
        try:
            # What it has started.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._log.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def http(port, request, until_close=True):
    """Sends bytes to a server, and returns what it answers until it closes the connection."""
    if isinstance(request, str):
        request = request.replace("\n", "\r\n").encode()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(request)
        parts = []
        while True:
            part = sock.recv(65536)
            if not part:
                return b"".join(parts)
            parts.append(part)


def get(port, path="/", **headers):
    """(status, body) of a GET."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    answer = http(port, f"GET {path} HTTP/1.1\nHost: localhost\nConnection: close\n{lines}\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        body = unchunked(body)
    return int(head.split()[1]), body


def unchunked(data):
    parts = []
    while True:
        size, _, data = data.partition(b"\r\n")
        if int(size, 16) == 0:
            return b"".join(parts)
        parts.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]


# ---- packages and servers that are not ours ----


@contextlib.contextmanager
def _installing():
    """Two test processes that run side by side do not install at once."""
    with open(os.path.join(sys.prefix, ".installing"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _missing(packages):
    importlib.invalidate_caches()
    named = [(name, module or name.replace("-", "_").lower()) for name, _, module in (p.partition("=") for p in packages)]
    return [name for name, module in named if importlib.util.find_spec(module) is None]


def need(*packages):
    """Packages of PyPI, as `name` or `name=module`; installed into this environment if they are not there.

    WEALD_TESTS_OFFLINE=1 leaves out what is missing.
    """
    if not _missing(packages):
        return
    with _installing():
        missing = _missing(packages)
        if not missing:
            return
        if os.environ.get("WEALD_TESTS_OFFLINE"):
            raise unittest.SkipTest(f"without {' '.join(missing)}")
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *missing], capture_output=True, text=True, timeout=300
        )
    importlib.invalidate_caches()
    if done.returncode:
        raise unittest.SkipTest(f"{' '.join(missing)} can not be installed: {done.stderr.strip()[-300:]}")


# A network or a lock that does not answer leaves a test out, and does not hold it up.
APT = ["apt-get", "-qq", "-y", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1", "-o", "DPkg::Lock::Timeout=120"]


def need_program(name, package=None, where=()):
    """The path of a program; installed with apt-get, as `package` or several, if it is missing and we are root."""
    found, reason = _find(name, where), ""
    if found is None and package and os.geteuid() == 0 and shutil.which("apt-get"):
        with _installing():
            for words in ["install", *package.split()], ["update"], ["install", *package.split()]:
                found = _find(name, where)
                if found:
                    break
                reason = f": {_apt(words)}"
        found = _find(name, where)
    if found is None:
        raise unittest.SkipTest(f"there is no {name}{reason}")
    return found


def _apt(words):
    """What apt-get says last."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run([*APT, *words], capture_output=True, text=True, timeout=300, env=env)
    except subprocess.TimeoutExpired:
        return f"apt-get {' '.join(words)} takes too long"
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"apt-get ends with {done.returncode}"


def _find(name, where):
    found = shutil.which(name)
    for pattern in where:
        found = found or next((str(path / name) for path in sorted(Path("/").glob(pattern)) if (path / name).exists()), None)
    return found


def certificate(case):
    """The paths of a certificate for localhost and of its key, which a test, or a class of tests, has until its end."""
    openssl = need_program("openssl", "openssl")
    folder = tempfile.TemporaryDirectory(prefix="weald-tls-")
    (case.addClassCleanup if isinstance(case, type) else case.addCleanup)(folder.cleanup)
    cert, key = (os.path.join(folder.name, name) for name in ("cert.pem", "key.pem"))
    subprocess.run([openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
                    "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=LIMIT)  # fmt: skip
    return cert, key


class Redis:
    """A Redis server on a free port."""

    def __init__(self):
        program = need_program("redis-server", "redis-server")
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="weald-redis-")
        self.server = Server(
            [program, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", self.folder],
            port=self.port,
        )
        self.server.wait()

    def stop(self):
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres:
    """A PostgreSQL server on a free port, with a user and a database named weald."""

    def __init__(self):
        where = ("usr/lib/postgresql/*/bin",)
        initdb, postgres = (need_program(name, "postgresql", where) for name in ("initdb", "postgres"))
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="weald-postgres-")
        data = os.path.join(self.folder, "data")
        drop = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(self.folder, "postgres")
            drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        os.chmod(self.folder, 0o755)
        done = subprocess.run([*drop, initdb, "-D", data, "-U", "weald", "-A", "trust", "--no-sync"],
                              capture_output=True, text=True, timeout=120, cwd="/")  # fmt: skip
        if done.returncode:
            raise unittest.SkipTest(f"initdb: {done.stderr[-300:]}")
        self.server = Server(
            [*drop, postgres, "-D", data, "-p", self.port, "-k", self.folder, "-c", "fsync=off",
             "-c", "listen_addresses=127.0.0.1"],
            port=self.port, cwd="/",
        )  # fmt: skip
        self.server.wait()

    def stop(self):
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class MariaDB:
    """A MariaDB server on a free port; its user root has no password."""

    def __init__(self):
        where = ("usr/sbin", "usr/bin", "usr/local/sbin")
        server = need_program("mariadbd", "mariadb-server", where)
        install = need_program("mariadb-install-db", "mariadb-server", where)
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="weald-mariadb-")
        data = os.path.join(self.folder, "data")
        user = []
        if os.geteuid() == 0:
            # It refuses to run as root.
            shutil.chown(self.folder, "mysql")
            user = ["--user=mysql"]
        os.chmod(self.folder, 0o755)
        done = subprocess.run(
            [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db",
             *user], capture_output=True, text=True, timeout=180, cwd=self.folder,
        )  # fmt: skip
        if done.returncode:
            raise unittest.SkipTest(f"mariadb-install-db: {done.stderr[-300:]}")
        self.server = Server(
            [server, "--no-defaults", f"--datadir={data}", f"--port={self.port}", "--bind-address=127.0.0.1",
             f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid", "--innodb-flush-log-at-trx-commit=0",
             "--innodb-buffer-pool-size=16M", *user],
            port=self.port, cwd=self.folder,
        )  # fmt: skip
        self.server.wait()

    def stop(self):
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class ZooKeeper:
    """A ZooKeeper server on a free port."""

    def __init__(self):
        # Not the package zookeeper, which wants a Java that draws windows.
        package, where = "--no-install-recommends libzookeeper-java libslf4j-java default-jre-headless", ("usr/share/java",)
        jars = [need_program(name, package, where) for name in ("zookeeper.jar", "slf4j-simple.jar")]
        java = need_program("java", package)
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="weald-zookeeper-")
        config = Path(self.folder, "zoo.cfg")
        # Sessions may be as short as a second, so that a test need not wait for the end of one.
        config.write_text(f"dataDir={self.folder}/data\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
                          "tickTime=500\nmaxClientCnxns=0\nadmin.enableServer=false\n")  # fmt: skip
        self._words = [java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no",
                       "-cp", ":".join(map(str, jars)), "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]  # fmt: skip
        self.start()

    def start(self):
        self.server = Server(self._words, port=self.port, cwd=self.folder)
        self.server.wait()

    def stop(self):
        self.server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
