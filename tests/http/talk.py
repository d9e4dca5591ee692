"""The server of server.c in a process of its own, and bytes to it and back."""

import socket
import subprocess


class Server:
    def __init__(self, program, *limits):
        self.child = subprocess.Popen([str(program), *limits], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.port = int(self.child.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.child.terminate()
        self.child.wait(10)

    def lives(self):
        return self.child.poll() is None

    def rss(self):
        with open(f"/proc/{self.child.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * 4096

    def connect(self, timeout=10):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def ask(self, *pieces, timeout=10):
        """What comes back for the pieces, sent one by one, until the server closes."""
        return ask(self.port, *pieces, timeout=timeout)


def ask(port, *pieces, timeout=10):
    with socket.create_connection(("127.0.0.1", port), timeout) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has closed already: what it said is still to be read
        return rest(client)


def ask_openly(port, request, patience=0.2):
    """As `ask`, to a proxy that would take a client which has said all for one that has left."""
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(request)
        client.settimeout(patience)
        return rest(client)


def rest(client):
    got = b""
    try:
        while more := client.recv(65536):
            got += more
    except (ConnectionResetError, TimeoutError):
        pass
    return got


class Answer:
    """A response: its status, headers and body, and what the server has understood if it says so."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body
        self.understood = {"headers": []}
        for line in body.decode("latin-1").splitlines() if status == 200 else []:
            what, _, text = line.partition(" ")
            try:
                value = bytes.fromhex(text)
            except ValueError:
                return
            if what == "name":
                self.understood["headers"].append([value, None])
            elif what == "value":
                self.understood["headers"][-1][1] = value
            else:
                self.understood[what] = value


def answers(got):
    """The responses in what came back; interim ones are left out."""
    found = []
    while got.startswith(b"HTTP/1.1 "):
        head, _, got = got.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = int(first.split()[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        if status < 200:
            continue
        if headers.get(b"transfer-encoding") == b"chunked":
            body, got = unchunked(got)
        else:
            length = int(headers.get(b"content-length", len(got)))
            body, got = got[:length], got[length:]
        found.append(Answer(status, headers, body))
    return found


def unchunked(got):
    body = b""
    while True:
        size, _, got = got.partition(b"\r\n")
        if not size or int(size, 16) == 0:
            return body, got[2:] if size else b""
        body, got = body + got[: int(size, 16)], got[int(size, 16) + 2 :]
