"""The servers of these benches: `serve.py KIND WHO PORT` serves on the loopback until it is killed.

KIND is echo, http, websocket or longpoll, and WHO whose server it is: weald, gevent, or a peer.
"""
import importlib
import sys

HELLO = b"Hello, World!"
PIECES = [b"x" * 100] * 10
TEXT = [("Content-Type", "text/plain")]
HOST = "127.0.0.1"


def module(library, name):
    return importlib.import_module(f"{library}.{name}")


# ---- echo ----


def echo(who, port):
    if who in ("weald", "gevent"):
        module(who, "server").StreamServer((HOST, port), _echo, backlog=1024).serve_forever()
    else:
        _echo_of_asyncio(who, port)


def _echo(sock, address):
    while True:
        data = sock.recv(4096)
        if not data:
            return
        sock.sendall(data)


def _echo_of_asyncio(who, port):
    import asyncio

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def talk(reader, writer):
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main():
        loop = asyncio.get_running_loop()
        if who.endswith("protocol"):
            server = await loop.create_server(Echo, HOST, port, backlog=1024)
        else:
            server = await asyncio.start_server(talk, HOST, port, backlog=1024)
        await server.serve_forever()

    loop = importlib.import_module("uvloop" if who.startswith("uvloop") else "asyncio").new_event_loop()
    loop.run_until_complete(main())


# ---- HTTP ----


def hello(environ, start_response):
    if environ["PATH_INFO"] == "/chunked":
        start_response("200 OK", list(TEXT))
        return iter(PIECES)
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(HELLO)))])
    return [HELLO]


async def hello_of_asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in TEXT]
    if scope["path"] == "/chunked":
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for piece in PIECES:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    headers.append((b"content-length", str(len(HELLO)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


def http(who, port):
    if who == "uvicorn":
        import uvicorn

        uvicorn.run(hello_of_asgi, host=HOST, port=port, loop="uvloop", http="httptools", access_log=False,
                    log_level="critical", backlog=1024)  # fmt: skip
    elif who == "bjoern":
        import bjoern

        bjoern.run(hello, HOST, port)
    elif who == "fastwsgi":
        import fastwsgi

        fastwsgi.run(hello, HOST, port)
    else:
        _wsgi(who, port, hello)


def _wsgi(library, port, application, **more):
    Server = module(library, "pywsgi").WSGIServer
    if library == "gevent":
        Server = _without_delay(Server)
    Server((HOST, port), application, log=None, backlog=1024, **more).serve_forever()


def _without_delay(Server):
    """gevent leaves Nagle's algorithm on, and a second write waits for the client's acknowledgement of the first."""
    from socket import IPPROTO_TCP, TCP_NODELAY

    class Quick(Server):
        def handle(self, sock, address):
            sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            super().handle(sock, address)

    return Quick


# ---- WebSocket ----


def websocket(who, port):
    """weald.websocket, or gevent-websocket: on gevent, or unmodified on weald ("alias")."""
    if who == "weald":
        from weald.websocket import WebSocketServer

        WebSocketServer((HOST, port), _websocket_echo, log=None, backlog=1024).serve_forever()
        return
    if who == "alias":
        import weald

        weald.install_as_gevent()
    from geventwebsocket.handler import WebSocketHandler

    _wsgi("gevent", port, _gevent_websocket_echo, handler_class=WebSocketHandler)


def _websocket_echo(environ, start_response):
    socket = environ["wsgi.websocket"]
    for message in socket:
        socket.send(message)
    return []


def _gevent_websocket_echo(environ, start_response):
    socket = environ["wsgi.websocket"]
    while (message := socket.receive()) is not None:
        socket.send(message)
    return []


# ---- long poll ----


def longpoll(who, port):
    """Answers when somebody has asked for /go."""
    go = module(who, "event").Event()

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/go":
            go.set()
        elif environ["PATH_INFO"] == "/":
            go.wait()
        start_response("200 OK", [*TEXT, ("Content-Length", str(len(HELLO)))])
        return [HELLO]

    _wsgi(who, port, application)


if __name__ == "__main__":
    globals()[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
