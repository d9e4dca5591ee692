"""The stubs: stubtest compares them with what is there, and mypy takes what is right and refuses what is wrong."""
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import support

PACKAGE = Path(__file__).resolve().parents[1] / "weald"

# Where a stub says something else than what is there, on purpose.
ALLOWED = r"""
# Functions in the package, methods of the class by their nature.
weald\.spawn
weald\.spawn_later
# They stand for the standard classes, whose stubs say more of the arguments.
weald\.socket\.socket\..*
weald\.ssl\.SSLSocket\..*
weald\.subprocess\.Popen\.__init__
# Not public.
weald\._.*
"""

GOOD = """
import asyncio
import ssl
from collections.abc import Iterator
from typing import Any

from typing_extensions import assert_type

import weald
from weald import Greenlet, Timeout, monkey
from weald.asyncio import EventLoop, run, wait, wrap
from weald.event import AsyncResult, Event
from weald.fileobject import FileObject
from weald.greenlet import getcurrent, greenlet
from weald.hub import LoopExit, get_hub
from weald.local import local
from weald.lock import BoundedSemaphore, RLock, Semaphore
from weald.pool import Group, Pool
from weald.pywsgi import WSGIServer
from weald.queue import Channel, Empty, Full, JoinableQueue, PriorityQueue, Queue
from weald.select import POLLIN, poll, select
from weald.server import DatagramServer, StreamServer
from weald.socket import AF_INET, SOCK_STREAM, create_connection, gaierror, socket, timeout
from weald.ssl import CERT_NONE, SSLContext, SSLError
from weald.subprocess import PIPE, Popen, check_output
from weald.threadpool import ThreadPool, ThreadPoolExecutor
from weald.util import GreenletTree, print_run_info
from weald.websocket import WebSocket, WebSocketServer, broadcast, connect

monkey.patch_all(thread=False)

def length(text: str) -> int:
    return len(text)

job = weald.spawn(length, "oak")
assert_type(job, Greenlet[int])
assert_type(job.get(), int)
assert_type(job.value, int | None)
assert_type(weald.spawn_later(0.1, length, "oak"), Greenlet[int])
assert_type(Greenlet.spawn(length, "oak").get(timeout=1), int)
for done in weald.joinall([job], timeout=5):
    assert_type(done, Greenlet[int])
weald.killall([job], block=False)
weald.sleep(0.1)

class Worker(Greenlet[None]):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.what = name

    def _run(self) -> None:
        weald.sleep(0)

assert_type(Worker("oak").what, str)
with Worker("oak") as worker:
    assert_type(worker, Worker)

with Timeout(1) as limit:
    assert_type(limit.pending, bool)
try:
    weald.with_timeout(1, length, "oak")
except Timeout:
    pass

queue: Queue[int] = Queue(10)
queue.put(1, timeout=2)
assert_type(queue.get(), int)
for item in queue:
    assert_type(item, int)
queue.task_done()
channel: Channel[str] = Channel()
assert_type(channel.get_nowait(), str)
assert_type(Pool(3).map(length, ["a", "b"]), list[int])
assert_type(Pool(3).imap_unordered(length, ["a", "b"]), Iterator[int])
assert_type(ThreadPool(2).apply(length, ("oak",)), int)
assert_type(ThreadPool(2).spawn(length, "oak").get(), int)
result: AsyncResult[str] = AsyncResult()
result.set("oak")
assert_type(result.get(block=False), str)
assert_type(Event().wait(1), bool)
with Semaphore(2), RLock():
    pass
BoundedSemaphore(1).acquire(timeout=0.1)

def echo(client: socket, address: Any) -> None:
    client.sendall(client.recv(100))

with StreamServer(("127.0.0.1", 0), echo, spawn=Pool(10)) as server:
    server.start()
    assert_type(server.server_port, int | None)
DatagramServer(":9000", lambda data, address: None).stop()
StreamServer(("", 443), echo, certfile="x.pem", keyfile="x.key").serve_forever()
peer = create_connection(("localhost", 80), timeout=3)
assert_type(peer, socket)
assert_type(peer.accept()[0], socket)
made = socket(AF_INET, SOCK_STREAM)
assert_type(made.recv(10), bytes)
context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.verify_mode = CERT_NONE
assert_type(context.wrap_socket(peer, server_hostname="oak").read(10), bytes)
assert_type(select([peer], [], [], 1)[0], list[Any])
waiting = poll()
waiting.register(peer, POLLIN)
assert_type(waiting.poll(1), list[tuple[int, int]])

def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"oak"]

WSGIServer(("", 8000), application, log=None).serve_forever()
WebSocketServer(("", 8000), application).serve_forever()
with connect("ws://localhost:8000/", protocols=["chat"]) as web:
    assert_type(web, WebSocket)
    assert_type(web.receive(), str | bytes | None)
    for message in web:
        assert_type(message, str | bytes)
assert_type(broadcast([web], "oak"), int)
assert_type(Popen(["true"], stdout=PIPE, text=True).communicate()[0], str)
assert_type(check_output(["true"]), bytes)

async def answer() -> int:
    return 7

async def both() -> None:
    assert_type(await wrap(weald.spawn(length, "oak")), int)

assert_type(run(answer()), int)
assert_type(wait(answer(), timeout=1), int)
loop: asyncio.AbstractEventLoop = EventLoop()

class Mine(local):
    name = "oak"

assert_type(Mine().name, str)
assert_type(getcurrent(), greenlet)
timer = get_hub().loop.timer(1, repeat=1)
timer.start(print, "tick")
timer.stop()
get_hub().loop.run_callback(print, 1)
assert_type(GreenletTree.current_tree().format(), str)
print_run_info(limit=5)
with FileObject("/dev/null", "rb") as file:
    file.read()
with ThreadPoolExecutor(2) as executor:
    assert_type(executor.submit(length, "oak").result(), int)
"""

# A line each, and the code of mypy's error.
BAD = """
import weald; weald.spawn(1)                                            # call-overload or arg-type
import weald; weald.spawn(len, "").get().upper()                        # attr-defined
import weald; weald.sleep("1")                                          # arg-type
import weald; weald.spawm(len)                                          # operator or attr-defined
import weald; weald.joinall(1)                                          # arg-type or type-var
from weald import Greenlet; Greenlet(len, "").joined                    # attr-defined
from weald.queue import Queue; q: Queue[int] = Queue(); q.put("oak")    # arg-type
from weald.queue import Queue; q: Queue[int] = Queue(maxsize="1")       # arg-type
from weald.pool import Pool; Pool("3")                                  # arg-type
from weald.event import Event; Event().wait("now")                      # arg-type
from weald.event import Event; Event().fire()                           # attr-defined
from weald.lock import Semaphore; Semaphore(value="1")                  # arg-type
from weald.socket import create_connection; create_connection("host")   # arg-type
from weald.socket import socket; socket().sendall("text")               # arg-type
from weald.socket import NO_SUCH_CONSTANT                               # attr-defined
from weald.server import StreamServer; StreamServer(("", 0), 3)         # arg-type
from weald.server import StreamServer; StreamServer(("", 0)).listen()   # attr-defined
from weald.pywsgi import WSGIServer; WSGIServer(("", 0), 1)             # arg-type
from weald.hub import get_hub; get_hub().loop.timer("1")                # arg-type
from weald.websocket import connect; connect(80)                        # arg-type
from weald.asyncio import run; run(1)                                   # arg-type
from weald.subprocess import check_output; check_output(1)              # call-overload
from weald.timeout import Timeout; Timeout(seconds="1")                 # arg-type
from weald.monkey import patch_all; patch_everything()                  # name-defined
from weald.threadpool import ThreadPool; ThreadPool("1")                # arg-type
"""


class Typing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        support.need("mypy", "dnspython=dns", "typing_extensions")

    def run_tool(self, *words, **files):
        with tempfile.TemporaryDirectory(prefix="weald-typing-") as folder:
            for name, text in files.items():
                Path(folder, name.replace("__", ".")).write_text(text)
            words = [sys.executable, "-m", *words]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout + done.stderr

    def test_every_public_module_has_a_stub(self):
        modules = [path for path in PACKAGE.rglob("*.py") if "_gevent" not in path.parts
                   and (path.name == "__init__.py" or not path.name.startswith("_"))]  # fmt: skip
        self.assertGreater(len(modules), 30)
        self.assertEqual([path.name for path in modules if not path.with_suffix(".pyi").exists()], [])
        self.assertTrue((PACKAGE / "py.typed").exists())

    def test_stubs_agree_with_the_modules(self):
        lines = ["[mypy]"]
        for path in sorted(PACKAGE.rglob("_*.py")):
            parts = ["weald", *path.relative_to(PACKAGE).with_suffix("").parts]
            if parts[-1] != "__init__":
                lines += [f"[mypy-{'.'.join(parts)}]", "ignore_errors = True"]
        lines += ["[mypy-weald._gevent.*]", "ignore_errors = True", ""]
        status, out = self.run_tool(
            "mypy.stubtest", "weald", "--concise", "--ignore-missing-stub", "--ignore-disjoint-bases",
            "--ignore-unused-allowlist", "--allowlist", "allowed.txt", "--mypy-config-file", "mypy.ini",
            allowed__txt=ALLOWED, mypy__ini="\n".join(lines),
        )  # fmt: skip
        self.assertEqual(status, 0, out)

    def test_right_programs(self):
        for version in "3.10", "3.13":
            status, out = self.run_tool("mypy", "--strict", "--python-version", version, "good.py", good__py=GOOD)
            self.assertEqual(status, 0, out)

    def test_wrong_lines(self):
        files, wanted = {}, {}
        for number, line in enumerate(textwrap.dedent(BAD).strip().splitlines()):
            source, _, codes = line.partition("#")
            files[f"bad{number}__py"] = source.strip() + "\n"
            wanted[f"bad{number}.py"] = (source.strip(), codes.strip().split(" or "))
        _, out = self.run_tool("mypy", *wanted, **files)
        found = {}
        for name, code in re.findall(r"^(bad\d+\.py):\d+: error: .*\[([\w-]+)\]$", out, re.M):
            found.setdefault(name, set()).add(code)
        for name, (source, codes) in wanted.items():
            with self.subTest(source):
                self.assertTrue(found.get(name, set()) & set(codes), f"{source}: {found.get(name)}, wanted {codes}")


if __name__ == "__main__":
    unittest.main()
