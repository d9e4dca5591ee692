"""A TCP proxy: what comes to one port goes to another, and back.

    python proxy.py LISTEN_PORT HOST PORT

A greenlet for each direction of each connection. Ends by control-C, or SIGTERM, when the last connection has ended.
"""
import signal
import socket
import sys

import weald
from weald.server import StreamServer
from weald.socket import create_connection


class Proxy(StreamServer):
    def __init__(self, listener, target):
        super().__init__(listener, spawn=1000)
        self.target = target

    def handle(self, client, address):
        try:
            upstream = create_connection(self.target, timeout=10)
        except OSError as problem:
            print(f"{address[0]}: {problem}", file=sys.stderr)
            return
        with upstream:
            upstream.settimeout(None)
            weald.joinall([weald.spawn(pump, client, upstream), weald.spawn(pump, upstream, client)])


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        # One side is gone; the other is told below.
        pass
    finally:
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def main():
    port, host, target = sys.argv[1:]
    proxy = Proxy(("127.0.0.1", int(port)), (host, int(target)))
    weald.signal_handler(signal.SIGTERM, proxy.stop)
    print(f"127.0.0.1:{port} -> {host}:{target}", flush=True)
    proxy.serve_forever(stop_timeout=60)


if __name__ == "__main__":
    main()
