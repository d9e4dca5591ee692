"""Echo servers in Python: `peers.py picows|websockets`, `peers.py asyncio CERTIFICATE KEY`. Prints its port."""
import asyncio
import ssl
import sys


async def picows():
    from picows import WSListener, ws_create_server

    class Echo(WSListener):
        def on_ws_frame(self, transport, frame):
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    return await ws_create_server(lambda request: Echo(), "127.0.0.1", 0)


async def websockets():
    from websockets.asyncio.server import serve

    async def echo(talk):
        async for message in talk:
            await talk.send(message)

    return (await serve(echo, "127.0.0.1", 0, compression=None)).server


class Bytes(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def over_asyncio(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return await asyncio.get_running_loop().create_server(Bytes, "127.0.0.1", 0, ssl=context)


async def main():
    server = await {"picows": picows, "websockets": websockets, "asyncio": over_asyncio}[sys.argv[1]](*sys.argv[2:])
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop
        uvloop.run(main())
    except ImportError:
        asyncio.run(main())
