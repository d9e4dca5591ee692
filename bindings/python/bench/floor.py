"""What packages cost by themselves, which no library below them can save: microseconds of CPU for a request.

    python floor.py gunicorn|websocket memory     requests come from memory, answers go nowhere
    python floor.py gunicorn|websocket tcp        ... from sockets that hold them all already, so that nobody ever waits:
                                                  one recv(2) and the package's own number of send(2) a request

Compare them with the rows of bench.py, in turns: gunicorn's Python is AsyncWorker.handle, gevent-websocket's WebSocket.
"""
import contextlib
import io
import os
import socket
import sys
import time
import types

CONNECTIONS, EACH = 100, 100
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
FRAME = bytes([0x81, 0x80 | 64, 1, 2, 3, 4]) + bytes(ord("a") ^ (1 + i % 4) for i in range(64))


def filled(request, cores):
    """Connections that hold their requests, and a process that takes the answers on the other core."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS)
    if os.fork() == 0:
        os.sched_setaffinity(0, {cores[-1]})
        clients = [socket.create_connection(listener.getsockname()) for _ in range(CONNECTIONS)]
        for client in clients:
            client.sendall(request * EACH)
        for client in clients:
            while client.recv(65536):
                pass
        os._exit(0)
    connections = [listener.accept()[0] for _ in range(CONNECTIONS)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    time.sleep(0.5)
    return connections


class FromMemory:
    """As much of a socket as gunicorn uses."""

    left = EACH

    def recv(self, size):
        self.left -= 1
        return GET if self.left >= 0 else b""

    def sendall(self, data):
        pass

    def close(self):
        pass

    def getsockname(self):
        return "127.0.0.1", 80


class FromTcp(FromMemory):
    def __init__(self, connection):
        self._recv, self.sendall, self.close = connection.recv, connection.sendall, connection.close

    def recv(self, size):
        self.left -= 1
        return self._recv(len(GET)) if self.left >= 0 else b""


def gunicorn(connections):
    sys.argv = ["gunicorn", "--log-level", "critical", "-b", "127.0.0.1:0", "serve:hello"]
    from gunicorn.app.wsgiapp import WSGIApplication
    from gunicorn.workers.base_async import AsyncWorker

    app = WSGIApplication("%(prog)s")
    worker = AsyncWorker(0, 0, [], app, 30, app.cfg, app.cfg.logger_class(app.cfg))
    worker.timeout_ctx = contextlib.nullcontext
    worker.wsgi, worker.nr, worker.alive, worker.max_requests = app.wsgi(), 0, True, sys.maxsize
    sockets = [FromTcp(connection) for connection in connections] or [FromMemory() for _ in range(CONNECTIONS)]

    def work():
        for each in sockets:
            worker.handle(each, each, ("127.0.0.1", 1))

    return work


class Piecewise(io.RawIOBase):
    """Gives one frame at a time."""

    def __init__(self, connection):
        self._recv_into = connection.recv_into

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._recv_into(buffer, len(FRAME))


def websocket(connections):
    from geventwebsocket.websocket import WebSocket

    def stream(connection):
        if connection is None:
            return types.SimpleNamespace(read=io.BytesIO(FRAME * EACH).read, write=len)
        return types.SimpleNamespace(read=io.BufferedReader(Piecewise(connection)).read, write=connection.sendall)

    sockets = [WebSocket({}, stream(connection), None) for connection in connections or [None] * CONNECTIONS]

    def work():
        for each in sockets:
            for _ in range(EACH):
                each.send(each.receive())

    return work


def main():
    package, source = sys.argv[1:3]
    cores = sorted(os.sched_getaffinity(0))
    request = {"gunicorn": GET, "websocket": FRAME}[package]
    connections = filled(request, cores) if source == "tcp" else []
    os.sched_setaffinity(0, {cores[0]})
    work = globals()[package](connections)
    began = time.process_time()
    work()
    print(f"{(time.process_time() - began) / (CONNECTIONS * EACH) * 1e6:.1f}", flush=True)
    os._exit(0)  # what lives on would still say goodbye


if __name__ == "__main__":
    main()
