"""What tests/harness/websocket.py has others do, in the virtual environment that they are installed in:

    websocket_peers.py fuzz-server PORT [CASE...]            Autobahn's cases against a server; prints verdicts as JSON
    websocket_peers.py fuzz-client PROGRAM FLAGS [CASE...]   the same against clients that PROGRAM starts
    websocket_peers.py client PORT [ROOTS]                   the websockets library talks to a server that echoes
    websocket_peers.py server PROGRAM FLAGS                  and is talked to by PROGRAM
"""
import asyncio
import json
import os
import ssl
import sys

LIMIT = 60


def verdicts(results):
    return {one.case_id: [one.behavior.value, one.behavior_close.value, str(one.result)] for one in results}


async def fuzz_server(port, *cases):
    from kosoku import FailureError, run_fuzzingclient
    try:
        results = await run_fuzzingclient(f"127.0.0.1:{port}", list(cases) or None, None, concurrency=2)
    except FailureError as failure:
        results = failure.results
    print(json.dumps(verdicts(results)))


async def fuzz_client(program, flags, *cases):
    from kosoku import FailureError, run_fuzzingserver
    async with run_fuzzingserver(list(cases) or None, None, host="127.0.0.1", port=0) as server:
        base = f"ws://127.0.0.1:{server.port}"
        count = await case_count(base)

        async def one(n):
            url = f"{base}/runCase?case={n}&agent=weald"
            child = await asyncio.create_subprocess_exec(program, "echo", url, flags,
                                                         stdout=asyncio.subprocess.DEVNULL)
            await asyncio.wait_for(child.wait(), LIMIT)

        for n in range(1, count + 1):
            await one(n)
        import websockets
        async with websockets.connect(f"{base}/updateReports?agent=weald") as done:
            await done.wait_closed()
        try:
            results = await server.get_result()
        except FailureError as failure:
            results = failure.results
    print(json.dumps(verdicts(results)))


async def case_count(base):
    import websockets
    async with websockets.connect(f"{base}/getCaseCount") as asked:
        return int(await asked.recv())


async def client(port, roots=None):
    import websockets
    context = ssl.create_default_context(cafile=roots) if roots else None
    url = f"{'wss' if roots else 'ws'}://localhost:{port}/"
    async with websockets.connect(url, ssl=context, subprotocols=["x", "echo"], max_size=None) as talk:
        assert talk.subprotocol == "echo"
        for message in ("", "hello", "wälder " * 20000, b"", bytes(range(256)) * 1000):
            await talk.send(message)
            assert await talk.recv() == message
        # What Autobahn's cases 12.N.1 and 13.N.1 do: many that are too short to be packed, and some that are not.
        text = "".join(chr(97 + i * i % 26) for i in range(3000))
        for i in range(1000):
            part = text[i:i + (63 + i // 10 % 3 if i % 10 == 0 else 16)]
            for message in (part, part.encode()):
                await talk.send(message)
                assert await talk.recv() == message
        await talk.send(["in ", "several ", "frames"])
        assert await talk.recv() == "in several frames"
        pong = await talk.ping(b"there?")
        await asyncio.wait_for(pong, LIMIT)
        await talk.close(4000, "enough")
    async with websockets.connect(f"{url}push", ssl=context) as talk:
        assert await talk.recv() == "first"
        await talk.wait_closed()
        assert (talk.close_code, talk.close_reason) == (3001, "enough")


async def server(program, flags):
    import websockets

    async def echo(talk):
        async for message in talk:
            await talk.send(message)

    async with websockets.serve(echo, "127.0.0.1", 0, max_size=None, subprotocols=["echo"]) as serving:
        port = serving.sockets[0].getsockname()[1]
        child = await asyncio.create_subprocess_exec(program, "talk", f"ws://127.0.0.1:{port}/", flags,
                                                     stdout=asyncio.subprocess.PIPE)
        said, _ = await asyncio.wait_for(child.communicate(), LIMIT)
    assert said.decode().startswith("OK 3000 echo"), said


if __name__ == "__main__":
    asyncio.run({"fuzz-server": fuzz_server, "fuzz-client": fuzz_client, "client": client,
                 "server": server}[sys.argv[1]](*sys.argv[2:]))
    sys.stdout.flush()
    os._exit(0)  # kosoku's threads do not always survive the interpreter's end
