"""Suite `interop`: weald at one end of a connection, and somebody else's TLS at the other: OpenSSL's command, Python's
ssl, curl; or somebody else's WebSocket: Python's websockets, and Autobahn's cases as kosoku runs them (these two from
PyPI, in a virtual environment of the tests); and other people's libraries, patched (see patched.py). The certificates are those of tests/certificates.rs.

`interop:websocket::autobahn_whole` runs all of Autobahn's cases, which takes minutes; without its name it is left out."""
import socket
import ssl
import subprocess
import threading
import time

from . import build, patched, process, tools, websocket

SOURCES = build.ROOT / "tests" / "interop"
SOURCE = SOURCES / "tls_peer.c"
PROGRAM = build.BUILT / "interop" / "tls_peer"
OWN = build.CERTIFICATES
LARGE = 200000
LIMIT = 20


def run(report, options):
    websocket.run(report, options)
    patched.run(report, options)
    with report.group("interop:tls") as group:
        compiled = build.compile_program(SOURCE, PROGRAM)
        if compiled.status != 0:
            group.failed("compiles", compiled.output)
            return
        for case in CASES:
            if options.wants(f"tls::{case.__name__}"):
                _one(group, case)


def _one(group, case):
    for tool in getattr(case, "needs", ()):
        reason = tools.missing(tool)
        if reason:
            group.skipped(case.__name__, reason)
            return
    try:
        case()
        group.passed(case.__name__)
    except (AssertionError, OSError, subprocess.SubprocessError) as trouble:
        group.failed(case.__name__, f"{type(trouble).__name__}: {trouble}")


def needs(*names):
    def mark(case):
        case.needs = names
        return case
    return mark


# ---- both ends ----

class Weald:
    """Our server, for as long as the block lasts."""

    def __init__(self, who="server", **values):
        values = {"certificate": OWN / f"{who}.pem", "key": OWN / f"{who}.key", **values}
        self.command = [str(PROGRAM), "server", "0", *(f"{k}={v}" for k, v in values.items())]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.port = int(self.process.stdout.readline())
        return self

    def line(self):
        """What the server says of the next connection."""
        return self.process.stdout.readline().strip()

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def client(port, **values):
    """What our client says."""
    values = {"roots": OWN / "root.pem", "size": LINE, **values}
    return process.run([PROGRAM, "client", str(port), *(f"{k}={v}" for k, v in values.items())], LIMIT).output


def openssl(*words, say=""):
    done = subprocess.run(["openssl", *map(str, words)], input=say, capture_output=True, text=True, timeout=LIMIT,
                          check=False)
    return done.stdout + done.stderr


def s_client(port, *words, say="hello\nbye\n"):
    return openssl("s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", OWN / "root.pem", "-servername", "oak.test",
                   "-verify_return_error", "-ign_eof", *words, say=say)


class Openssl:
    """`openssl s_server`, which sends every line back to front."""

    def __init__(self, *words, who="server"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-rev", "-cert",
                        str(OWN / f"{who}.pem"), "-key", str(OWN / f"{who}.key"), *map(str, words)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.02)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def contains(text, *parts):
    for part in parts:
        assert part in text, f"no {part!r} in\n{text}"


# ---- our server ----

@needs("openssl")
def openssl_talks_to_our_server_in_both_versions():
    for version, protocol in (("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")):
        with Weald(alpn="http/1.1") as server:
            out = s_client(server.port, version, "-alpn", "h2,http/1.1")
            contains(out, "hello\nbye\n", "Verify return code: 0 (ok)", "ALPN protocol: http/1.1")
            contains(server.line(), protocol, "alpn=http/1.1", "name=oak.test", "resumed=0")


@needs("openssl")
def openssl_resumes_a_session_of_our_server():
    session = build.BUILT / "interop" / "session.pem"
    for version in ("-tls1_3", "-tls1_2"):
        with Weald() as server:
            s_client(server.port, version, "-sess_out", session)
            contains(server.line(), "resumed=0")
            contains(s_client(server.port, version, "-sess_in", session), "Reused, ")
            contains(server.line(), "resumed=1")


@needs("openssl")
def openssl_with_old_versions_or_unknown_protocols_is_refused():
    with Weald(alpn="h2") as server:
        contains(s_client(server.port, "-alpn", "spdy/1"), "no application protocol")
        contains(s_client(server.port, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"), "alert")
        contains(s_client(server.port, "-tls1_2", "-cipher", "AES128-SHA"), "handshake failure")


@needs("openssl")
def our_server_asks_openssl_for_a_certificate():
    for version in ("-tls1_3", "-tls1_2"):
        with Weald(flags=2, roots=OWN / "root.pem") as server:
            shown = ("-cert", OWN / "client.pem", "-key", OWN / "client.key")
            contains(s_client(server.port, version, *shown), "hello\nbye\n")
            contains(server.line(), "certificate=1")
            contains(s_client(server.port, version), "alert")
            other = ("-cert", OWN / "intruder.pem", "-key", OWN / "intruder.key")
            contains(s_client(server.port, version, *other), "alert unknown ca")


@needs("curl")
def curl_gets_a_page_of_our_server():
    with Weald(alpn="http/1.1") as server:
        words = ["curl", "-sS", "--max-time", "10", "--cacert", OWN / "root.pem", f"https://localhost:{server.port}/"]
        out = process.run(words, LIMIT).output
        assert out == "weald\n", out
        contains(server.line(), "alpn=http/1.1", "name=localhost")
        words[5] = OWN / "other.pem"
        contains(process.run(words, LIMIT).output, "curl: (60)")


def python_client(**values):
    context = ssl.create_default_context(cafile=str(OWN / "root.pem"))
    for name, value in values.items():
        setattr(context, name, value)
    return context


def python_talks_to_our_server_and_ends_in_good_order():
    with Weald() as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = python_client(maximum_version=version)
            with socket.create_connection(("127.0.0.1", server.port), LIMIT) as plain:
                with context.wrap_socket(plain, server_hostname="oak.test") as secure:
                    text = b"x" * LARGE + b"\n"
                    secure.sendall(text + b"bye\n")
                    got = b""
                    while len(got) < len(text) + 4:
                        got += secure.recv(100000)
                    assert got == text + b"bye\n"
                    assert secure.recv(10) == b"", "the end is said"
                    secure.unwrap()
            contains(server.line(), "TLSv1." + ("2" if version == ssl.TLSVersion.TLSv1_2 else "3"))


def python_that_hangs_up_without_a_word_is_noticed():
    with Weald() as server:
        plain = socket.create_connection(("127.0.0.1", server.port), LIMIT)
        secure = python_client().wrap_socket(plain, server_hostname="oak.test")
        secure.sendall(b"hello\nhal")
        assert secure.recv(100) == b"hello\n"
        server.line()
        secure.close()
        contains(server.line(), "ECONNABORTED", "without a close_notify")


# ---- our client ----

LINE = 10000  # what s_server takes for one
REVERSED = ("5 olleh", f"{LINE} xxxxx", "3 eyb")


@needs("openssl")
def our_client_talks_to_openssl_in_both_versions():
    for version, protocol in (("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")):
        with Openssl(version, "-alpn", "h2,http/1.1") as server:
            contains(client(server.port, alpn="http/1.1"), protocol, "alpn=http/1.1", *REVERSED)


@needs("openssl")
def our_client_resumes_sessions_of_openssl():
    for version in ("-tls1_3", "-tls1_2"):
        with Openssl(version) as server:
            contains(client(server.port, times=2), "resumed=0", "resumed=1")


@needs("openssl")
def our_client_says_what_is_wrong_with_openssl_s_certificate():
    for who, why in (("expired", "has expired"), ("stranger", "nobody we trust"), ("second", "is for another name")):
        with Openssl(who=who) as server:
            contains(client(server.port), "ECERTIFICATE", why)
            contains(client(server.port, flags=4), *REVERSED)


@needs("openssl")
def our_client_shows_its_certificate_to_openssl():
    with Openssl("-Verify", "2", "-verify_return_error", "-CAfile", OWN / "root.pem") as server:
        contains(client(server.port, certificate=OWN / "client.pem", key=OWN / "client.key"), *REVERSED)
        contains(client(server.port), "EPROTO", "requires a certificate of ours")


@needs("openssl")
def our_client_takes_tiny_records():
    with Openssl("-max_send_frag", "512", "-split_send_frag", "512") as server:
        contains(client(server.port), *REVERSED)


def our_client_talks_to_python_that_ends_first():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(OWN / "server.pem", OWN / "server.key")
    for is_orderly in (True, False):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=_echo_once, args=(context, listener, is_orderly))
            thread.start()
            out = client(listener.getsockname()[1], size=LARGE, waits=1)
            thread.join()
        contains(out, "5 hello", f"{LARGE} xxxxx", "3 bye", "end" if is_orderly else "ECONNABORTED")


def _echo_once(context, listener, is_orderly):
    plain, _ = listener.accept()
    plain.settimeout(LIMIT)
    secure = context.wrap_socket(plain, server_side=True)
    expected, got = 6 + LARGE + 1 + 4, b""
    while len(got) < expected:
        got += secure.recv(100000)
    secure.sendall(got)
    if is_orderly:
        secure.unwrap()
    secure.close()


CASES = [
    openssl_talks_to_our_server_in_both_versions, openssl_resumes_a_session_of_our_server,
    openssl_with_old_versions_or_unknown_protocols_is_refused, our_server_asks_openssl_for_a_certificate,
    curl_gets_a_page_of_our_server, python_talks_to_our_server_and_ends_in_good_order,
    python_that_hangs_up_without_a_word_is_noticed, our_client_talks_to_openssl_in_both_versions,
    our_client_resumes_sessions_of_openssl, our_client_says_what_is_wrong_with_openssl_s_certificate,
    our_client_shows_its_certificate_to_openssl, our_client_takes_tiny_records,
    our_client_talks_to_python_that_ends_first,
]
