"""Packages that were written for gevent, or that use greenlet, unchanged, with the servers that they talk to."""
import threading
import time
import unittest

import support

PATCH = "from gevent import monkey; monkey.patch_all()\n"

# The server and its client; with TLS by ("context" or "files", certificate, key).
GEVENT_WEBSOCKET = (
    PATCH
    + """
import ssl, sys
import gevent, websocket
from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

def echo(environ, start_response):
    ws = environ["wsgi.websocket"]
    while True:
        message = ws.receive()
        if message is None:
            return []
        ws.send("bark " + message if isinstance(message, str) else bytes(message))

url, secure, trust = "ws://127.0.0.1", {}, {}
if len(sys.argv) > 1:
    way, cert, key = sys.argv[1:]
    url, trust = "wss://localhost", {"sslopt": {"ca_certs": cert}}
    secure = {"certfile": cert, "keyfile": key}
    if way == "context":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        secure = {"ssl_context": context}
server = WSGIServer(("127.0.0.1", 0), echo, handler_class=WebSocketHandler, log=None, **secure)
server.start()
client = websocket.create_connection(f"{url}:{server.server_port}/", timeout=20, **trust)
heard = []
for n in range(3):
    client.send(str(n))
    heard.append(client.recv())
client.send_binary(b"bytes")
print(heard, client.recv().decode())
client.close()
"""
)


class WithRedis(support.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.redis = support.Redis()
        cls.addClassCleanup(cls.redis.stop)

    def test_redis(self):
        support.need("redis")
        self.prints(
            "True 20 True",
            PATCH
            + """
import sys, time
import gevent, redis
client = redis.Redis(port=int(sys.argv[1]))
client.set("tree", "oak")
began = time.monotonic()
def wait(n):
    return redis.Redis(port=int(sys.argv[1])).blpop(f"list{n}", timeout=10)
waiters = [gevent.spawn(wait, n) for n in range(20)]
gevent.sleep(0.3)
for n in range(20):
    client.rpush(f"list{n}", n)
gevent.joinall(waiters)
print(client.get("tree") == b"oak", sum(int(w.value[1]) == n for n, w in enumerate(waiters)), time.monotonic() - began < 5)
""",
            self.redis.port,
        )

    def test_celery(self):
        support.need("celery", "redis")
        import tempfile
        from pathlib import Path

        folder = tempfile.TemporaryDirectory(prefix="weald-celery-")
        self.addCleanup(folder.cleanup)
        Path(folder.name, "tasks.py").write_text(
            f"""
import time
from celery import Celery
app = Celery("tasks", broker="redis://127.0.0.1:{self.redis.port}/1", backend="redis://127.0.0.1:{self.redis.port}/2")

@app.task
def slow(n):
    time.sleep(0.5)
    return n * n
"""
        )
        import sys

        worker = support.Server(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", "gevent", "-c", "20", "-l", "INFO"],
            port=0, cwd=folder.name, C_FORCE_ROOT="1",
        )  # fmt: skip
        self.addCleanup(worker.stop)
        lines = self.succeeds(
            f"""
            import sys, time
            sys.path.insert(0, {folder.name!r})
            from tasks import slow
            slow.delay(1).get(timeout=50)
            began = time.monotonic()
            results = [slow.delay(n) for n in range(20)]
            print([result.get(timeout=30) for result in results] == [n * n for n in range(20)], time.monotonic() - began < 5)
            """,
            how="plain", limit=100, WEALD_AS_GEVENT="",
        )  # fmt: skip
        self.assertEqual(lines, ["True True"], worker.output())


class WithPostgres(support.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.postgres = support.Postgres()
        cls.addClassCleanup(cls.postgres.stop)
        cls.dsn = f"host=127.0.0.1 port={cls.postgres.port} user=weald dbname=postgres"

    def test_psycopg2_with_psycogreen(self):
        support.need("psycopg2-binary=psycopg2", "psycogreen")
        self.prints(
            "10 True",
            PATCH
            + """
import sys, time
from psycogreen.gevent import patch_psycopg; patch_psycopg()
import gevent, psycopg2
def query(n):
    with psycopg2.connect(sys.argv[1]) as connection, connection.cursor() as cursor:
        cursor.execute("select pg_sleep(0.4), %s", (n,))
        return cursor.fetchone()[1]
began = time.monotonic()
jobs = [gevent.spawn(query, n) for n in range(10)]
gevent.joinall(jobs)
print(sum(job.get() == n for n, job in enumerate(jobs)), time.monotonic() - began < 3)
""",
            self.dsn,
        )

    def test_psycopg3(self):
        support.need("psycopg[binary]=psycopg")
        self.prints(
            "10 True",
            PATCH
            + """
import sys, time
import gevent, psycopg
def query(n):
    with psycopg.connect(sys.argv[1]) as connection:
        return connection.execute("select pg_sleep(0.4), %s", (n,)).fetchone()[1]
began = time.monotonic()
jobs = [gevent.spawn(query, n) for n in range(10)]
gevent.joinall(jobs)
print(sum(job.get() == n for n, job in enumerate(jobs)), time.monotonic() - began < 3)
""",
            self.dsn,
        )


    def test_sqlalchemy_asyncio(self):
        support.need("sqlalchemy", "psycopg[binary]=psycopg")
        self.prints(
            "10 True weald.greenlet",
            """
            import asyncio, sys, time
            import greenlet
            from sqlalchemy import text
            from sqlalchemy.ext.asyncio import create_async_engine

            async def query(engine, n):
                async with engine.connect() as connection:
                    return (await connection.execute(text("select pg_sleep(0.4), :n"), {"n": n})).one()[1]

            async def main():
                engine = create_async_engine(sys.argv[1], pool_size=10)
                began = time.monotonic()
                rows = await asyncio.gather(*(query(engine, n) for n in range(10)))
                await engine.dispose()
                print(sum(int(row) == n for n, row in enumerate(rows)), time.monotonic() - began < 3, greenlet.__name__)

            asyncio.run(main())
            """,
            f"postgresql+psycopg://weald@127.0.0.1:{self.postgres.port}/postgres",
        )


class WithMariaDB(support.TestCase):
    @classmethod
    def setUpClass(cls):
        support.need("pymysql")
        cls.mariadb = support.MariaDB()
        cls.addClassCleanup(cls.mariadb.stop)

    def test_pymysql(self):
        self.prints(
            "10 True [(1, 'oak'), (2, 'ash')]",
            PATCH
            + """
import sys, time
import gevent, pymysql
def connect(**more):
    return pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root", **more)
def query(n):
    connection = connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("select sleep(0.4), %s", (n,))
            return cursor.fetchone()[1]
    finally:
        connection.close()
began = time.monotonic()
jobs = [gevent.spawn(query, n) for n in range(10)]
gevent.joinall(jobs)
whole = time.monotonic() - began
with connect(autocommit=True) as connection, connection.cursor() as cursor:
    cursor.execute("create database weald")
    cursor.execute("create table weald.trees (n int primary key, name text)")
    cursor.executemany("insert into weald.trees values (%s, %s)", [(1, "oak"), (2, "ash")])
    cursor.execute("select * from weald.trees order by n")
    rows = list(cursor.fetchall())
print(sum(job.get() == n for n, job in enumerate(jobs)), whole < 3, rows)
""",
            self.mariadb.port,
        )

    def test_a_time_limit_ends_a_query(self):
        self.prints(
            "late True",
            PATCH
            + """
import sys, time
import gevent, pymysql
connection = pymysql.connect(host="127.0.0.1", port=int(sys.argv[1]), user="root")
began = time.monotonic()
try:
    with gevent.Timeout(0.3), connection.cursor() as cursor:
        cursor.execute("select sleep(20)")
except gevent.Timeout:
    print("late", time.monotonic() - began < 5)
""",
            self.mariadb.port,
        )


KAZOO = """
import sys, time
import gevent
from kazoo.client import KazooClient
from kazoo.handlers.gevent import SequentialGeventHandler

def connect(**more):
    client = KazooClient(f"127.0.0.1:{sys.argv[1]}", handler=SequentialGeventHandler(), **more)
    client.start(timeout=30)
    return client

def until(what):
    with gevent.Timeout(30):
        while not what():
            gevent.sleep(0.01)

client = connect()
"""


class WithZooKeeper(support.TestCase):
    @classmethod
    def setUpClass(cls):
        support.need("kazoo")
        cls.zookeeper = support.ZooKeeper()
        cls.addClassCleanup(cls.zookeeper.stop)

    def test_kazoo_reads_writes_and_watches(self):
        self.prints(
            """
            50 nodes, 50 values
            [b'', b'leaf', b'twig'] [0, 1, 2, 3] 50
            NoNodeError NodeExistsError
            """,
            PATCH
            + KAZOO
            + """
from kazoo.exceptions import NodeExistsError, NoNodeError
client.ensure_path("/oak/leaves")
seen, is_gone, sizes = [], [], []
client.create("/oak/watched")

@client.DataWatch("/oak/watched")
def look(data, stat):
    seen.append(data) if stat else is_gone.append(True)

@client.ChildrenWatch("/oak/leaves")
def count(children):
    sizes.append(len(children))

for n, value in enumerate([b"leaf", b"twig"], 2):
    client.set("/oak/watched", value)
    until(lambda: len(seen) == n)
for n in range(1, 4):
    client.create(f"/oak/leaves/{n}")
    until(lambda: sizes[-1] == n)

def work(n):
    path = client.create("/oak/leaves/n-", str(n).encode(), sequence=True, ephemeral=True)
    return path, client.get(path)[0] == str(n).encode()

done = [job.get(timeout=30) for job in [gevent.spawn(work, n) for n in range(47)]]
print(len({path for path, _ in done}) + 3, "nodes,", sum(right for _, right in done) + 3, "values")
client.delete("/oak/watched")
until(lambda: is_gone and sizes[-1] == 50)
print(seen, sizes[:4], sizes[-1])
errors = []
for call in (lambda: client.get("/elm")), (lambda: client.create("/oak")):
    try:
        call()
    except (NoNodeError, NodeExistsError) as problem:
        errors.append(type(problem).__name__)
print(*errors)
client.stop()
""",
            self.zookeeper.port,
        )

    def test_kazoo_locks_and_elects(self):
        self.prints(
            """
            30 times, 1 at once
            leaders [0, 1, 2, 3, 4], 1 at once
            """,
            PATCH
            + KAZOO
            + """
clients = [client, *(connect() for _ in range(4))]
inside, most, times = 0, 0, 0

def alone():
    global inside, most, times
    inside += 1
    most = max(most, inside)
    gevent.sleep(0.005)
    inside -= 1
    times += 1

def lock(n):
    with clients[n % 5].Lock("/lock", str(n)):
        alone()

gevent.joinall([gevent.spawn(lock, n) for n in range(30)], timeout=40, raise_error=True)
print(times, "times,", most, "at once")
leaders, most = [], 0

def lead(n):
    alone()
    leaders.append(n)

gevent.joinall([gevent.spawn(clients[n].Election("/election", str(n)).run, lead, n) for n in range(5)], timeout=40,
               raise_error=True)
print(f"leaders {sorted(leaders)}, {most} at once")
for client in clients:
    client.stop()
""",
            self.zookeeper.port,
        )

    def test_kazoo_comes_back_to_a_server_that_was_away(self):
        program = support.Server(
            PATCH
            + KAZOO
            + """
client.add_listener(lambda state: print("state", state))
client.create("/kept", b"bark")
print("ready")
until(lambda: not client.connected)
until(lambda: client.connected)
print(client.retry(client.get, "/kept")[0])
client.stop()
""",
            self.zookeeper.port, port=0,
        )  # fmt: skip
        self.addCleanup(program.stop)
        self.wait_for(lambda: "ready" in program.output(), program)
        self.zookeeper.server.stop()
        self.wait_for(lambda: "SUSPENDED" in program.output(), program)
        self.zookeeper.start()
        self.wait_for(lambda: program.process.poll() is not None, program)
        self.assertEqual(program.process.returncode, 0, program.output())
        lines = program.output().splitlines()
        self.assertEqual([line for line in lines if line in ("state SUSPENDED", "state CONNECTED", "b'bark'")],
                         ["state SUSPENDED", "state CONNECTED", "b'bark'"])  # fmt: skip

    def wait_for(self, what, program):
        end = time.monotonic() + 30
        while not what():
            self.assertLess(time.monotonic(), end, program.output())
            time.sleep(0.02)


class Web(support.TestCase):
    def test_gunicorn_serves_flask(self):
        support.need("gunicorn", "packaging", "flask")
        self._gunicorn(
            """
            import time
            from flask import Flask
            application = Flask(__name__)

            @application.route("/<name>")
            def hello(name):
                time.sleep(0.4)
                return f"hello {name}"
            """
        )

    def test_gunicorn_serves_django(self):
        support.need("gunicorn", "packaging", "django")
        self._gunicorn(
            """
            import time
            import django
            from django.conf import settings
            from django.core.wsgi import get_wsgi_application
            from django.http import HttpResponse
            from django.urls import path

            settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x")

            def hello(request, name):
                time.sleep(0.4)
                return HttpResponse(f"hello {name}")

            urlpatterns = [path("<name>", hello)]
            application = get_wsgi_application()
            """
        )

    def test_gunicorn_by_our_wsgi_server(self):
        support.need("gunicorn", "packaging", "flask")
        output = self._gunicorn(
            """
            import time
            from flask import Flask
            application = Flask(__name__)

            @application.route("/<name>")
            def hello(name):
                time.sleep(0.4)
                return f"hello {name}"
            """,
            "--access-logfile", "-", "--access-logformat", "%(r)s %(s)s %({host}i)s", kind="gevent_pywsgi",
        )  # fmt: skip
        self.assertIn("GET /first HTTP/1.1 200 localhost\n", output)
        self.assertNotIn("Traceback", output)

    def _gunicorn(self, source, *options, kind="gevent"):
        import sys
        import tempfile
        import textwrap
        from pathlib import Path

        folder = tempfile.TemporaryDirectory(prefix="weald-gunicorn-")
        self.addCleanup(folder.cleanup)
        Path(folder.name, "site_of_tests.py").write_text(textwrap.dedent(source))
        port = support.free_port()
        server = support.Server(
            [sys.executable, "-m", "gunicorn", "-k", kind, "-w", "2", "-b", f"127.0.0.1:{port}", *options,
             "site_of_tests:application"], port=port, cwd=folder.name,
        )  # fmt: skip
        self.addCleanup(server.stop)
        server.wait()
        self.assertEqual(support.get(port, "/first"), (200, b"hello first"), server.output())
        answers, began = [], time.monotonic()
        clients = [
            threading.Thread(target=lambda n=n: answers.append(support.get(port, f"/{n}"))) for n in range(20)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        self.assertEqual(sorted(answers), sorted((200, b"hello %d" % n) for n in range(20)))
        self.assertLess(time.monotonic() - began, 5)
        return server.output()

    def test_flask_on_the_wsgi_server_with_requests_as_client(self):
        support.need("flask", "requests")
        self.prints(
            "20 True",
            PATCH
            + """
import time
import gevent, requests
from flask import Flask, jsonify
from gevent.pywsgi import WSGIServer
app = Flask(__name__)

@app.route("/<int:n>")
def number(n):
    time.sleep(0.3)
    return jsonify(n=n)

server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()
began = time.monotonic()
jobs = [gevent.spawn(lambda n=n: requests.get(f"http://127.0.0.1:{server.server_port}/{n}", timeout=20).json()["n"]) for n in range(20)]
gevent.joinall(jobs)
print(sum(job.get() == n for n, job in enumerate(jobs)), time.monotonic() - began < 4)
""",
        )

    def test_grequests(self):
        support.need("grequests", "requests")
        self.prints(
            "[200, 200, 200]",
            """
            import grequests
            from gevent.pywsgi import WSGIServer

            def hello(environ, start_response):
                start_response("200 OK", [("Content-Length", "2")])
                return [b"ok"]

            server = WSGIServer(("127.0.0.1", 0), hello, log=None)
            server.start()
            url = f"http://127.0.0.1:{server.server_port}/"
            print([answer.status_code for answer in grequests.map(grequests.get(url, timeout=20) for _ in range(3))])
            """,
        )

    def test_geventhttpclient(self):
        support.need("geventhttpclient")
        self.prints(
            "10 ok",
            """
            import gevent
            from geventhttpclient import HTTPClient
            from gevent.pywsgi import WSGIServer

            def hello(environ, start_response):
                gevent.sleep(0.05)
                start_response("200 OK", [("Content-Length", "2")])
                return [b"ok"]

            server = WSGIServer(("127.0.0.1", 0), hello, log=None)
            server.start()
            client = HTTPClient("127.0.0.1", server.server_port, concurrency=5)
            jobs = [gevent.spawn(lambda: client.get("/").read()) for _ in range(10)]
            gevent.joinall(jobs)
            print(sum(bytes(job.get()) == b"ok" for job in jobs), "ok")
            """,
        )

    def test_gevent_websocket(self):
        support.need("gevent-websocket=geventwebsocket", "websocket-client=websocket")
        self.prints("['bark 0', 'bark 1', 'bark 2'] bytes", GEVENT_WEBSOCKET)

    def test_gevent_websocket_over_tls(self):
        support.need("gevent-websocket=geventwebsocket", "websocket-client=websocket")
        files = support.certificate(self)
        for way in "context", "files":
            with self.subTest(way):
                self.prints("['bark 0', 'bark 1', 'bark 2'] bytes", GEVENT_WEBSOCKET, way, *files)

    def test_flask_socketio(self):
        support.need("flask-socketio", "simple-websocket", "python-socketio[client]=socketio", "websocket-client=websocket")
        self.prints(
            """
            connected websocket
            ['echo 0', 'echo 1', 'echo 2']
            """,
            PATCH
            + """
import logging; logging.disable()
import gevent, socketio
from flask import Flask
from flask_socketio import SocketIO, send
app = Flask(__name__)
server = SocketIO(app, async_mode="gevent")

@server.on("message")
def echo(text):
    gevent.sleep(0.01)
    send("echo " + text)

import sys
port = int(sys.argv[1])
gevent.spawn(server.run, app, host="127.0.0.1", port=port)
gevent.sleep(0.5)
heard, done = [], gevent.event.Event()
client = socketio.Client()

@client.on("message")
def listen(text):
    heard.append(text)
    if len(heard) == 3:
        done.set()

client.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
print("connected", client.transport())
for n in range(3):
    client.send(str(n))
    gevent.sleep(0.05)
done.wait(10)
print(heard)
import os; sys.stdout.flush(); os._exit(0)
""",
            support.free_port(),
        )


class Others(support.TestCase):
    def test_zmq_green(self):
        support.need("pyzmq=zmq")
        self.prints(
            "[0, 1, 4] ticked",
            """
            import gevent
            import zmq.green as zmq
            context = zmq.Context()
            server, client = context.socket(zmq.REP), context.socket(zmq.REQ)
            port = server.bind_to_random_port("tcp://127.0.0.1")
            client.connect(f"tcp://127.0.0.1:{port}")

            def serve():
                while True:
                    n = int(server.recv())
                    gevent.sleep(0.02)
                    server.send(b"%d" % (n * n))

            ticks = []
            def tick():
                while True:
                    ticks.append(1)
                    gevent.sleep(0.005)

            gevent.spawn(serve)
            gevent.spawn(tick)
            answers = []
            for n in range(3):
                client.send(b"%d" % n)
                answers.append(int(client.recv()))
            print(answers, "ticked" if len(ticks) > 5 else ticks)
            """,
        )

    def test_sqlalchemy_asyncio_uses_our_greenlet(self):
        support.need("sqlalchemy", "aiosqlite")
        self.prints(
            "[(1,), (2,)] weald.greenlet",
            """
            import asyncio, sys
            from sqlalchemy import text
            from sqlalchemy.ext.asyncio import create_async_engine

            async def main():
                engine = create_async_engine("sqlite+aiosqlite://")
                async with engine.begin() as connection:
                    await connection.execute(text("create table t (n int)"))
                    await connection.execute(text("insert into t values (1), (2)"))
                    rows = (await connection.execute(text("select n from t order by n"))).all()
                await engine.dispose()
                import greenlet
                print([tuple(row) for row in rows], greenlet.__name__)

            asyncio.run(main())
            """,
        )

    def test_gipc(self):
        support.need("gipc")
        self.prints(
            "['0', '1', '2']",
            """
            import gevent, gipc

            def child(writer):
                for n in range(3):
                    writer.put(str(n))

            if __name__ == "__main__":
                with gipc.pipe() as (reader, writer):
                    process = gipc.start_process(child, args=(writer,))
                    print([reader.get() for _ in range(3)])
                    process.join()
            """,
        )

    def test_zerorpc(self):
        support.need("zerorpc")
        self.prints(
            "HELLO",
            """
            import gevent, zerorpc

            class Shout:
                def shout(self, text):
                    return text.upper()

            server = zerorpc.Server(Shout())
            server.bind("tcp://127.0.0.1:0")
            endpoint = server._events._socket.last_endpoint.decode()
            gevent.spawn(server.run)
            client = zerorpc.Client()
            client.connect(endpoint)
            print(client.shout("hello"))
            client.close()
            """,
        )

    def test_locust_imports_and_runs(self):
        support.need("locust")
        self.prints(
            "True",
            """
            import gevent.monkey; gevent.monkey.patch_all()
            import gevent
            from gevent.pywsgi import WSGIServer
            from locust import HttpUser, task
            from locust.env import Environment

            def hello(environ, start_response):
                start_response("200 OK", [("Content-Length", "2")])
                return [b"ok"]

            server = WSGIServer(("127.0.0.1", 0), hello, log=None)
            server.start()

            class User(HttpUser):
                host = f"http://127.0.0.1:{server.server_port}"

                @task
                def index(self):
                    self.client.get("/")

            environment = Environment(user_classes=[User])
            runner = environment.create_local_runner()
            runner.start(5, spawn_rate=5)
            gevent.sleep(1.5)
            runner.quit()
            stats = environment.stats.total
            print(stats.num_requests > 20 and stats.num_failures == 0)
            """,
        )

    def test_bottle_on_its_gevent_server(self):
        support.need("bottle", "requests")
        self.prints(
            "ab True 500 404",
            PATCH
            + """
import sys
import bottle, gevent, requests

@bottle.get("/parts")
def parts():
    yield "a"
    gevent.sleep(0.01)
    yield "b"

@bottle.post("/echo")
def echo():
    return bottle.request.body.read()

@bottle.get("/fails")
def fails():
    raise ValueError

port = int(sys.argv[1])
gevent.spawn(bottle.run, server="gevent", host="127.0.0.1", port=port, quiet=True)
gevent.sleep(0.5)
site, body = f"http://127.0.0.1:{port}", b"z" * 70000
print(requests.get(site + "/parts").text, requests.post(site + "/echo", data=body).content == body,
      requests.get(site + "/fails").status_code, requests.get(site + "/none").status_code)
""",
            support.free_port(),
        )

    def test_rpyc_on_its_gevent_server(self):
        support.need("rpyc")
        self.prints(
            "[0, 2, 4, 6, 8] 7 ValueError True",
            PATCH
            + """
import gevent, rpyc
from rpyc.utils.server import GeventServer

class Adder(rpyc.Service):
    def exposed_add(self, a, b):
        gevent.sleep(0.01)
        return a + b

    def exposed_call(self, f):
        return f(3) + 1

    def exposed_fail(self):
        raise ValueError("remote")

server = GeventServer(Adder, hostname="127.0.0.1", port=0)
serving = gevent.spawn(server.start)
gevent.sleep(0.2)

def add(n):
    connection = rpyc.connect("127.0.0.1", server.port)
    try:
        return connection.root.add(n, n)
    finally:
        connection.close()

sums = [job.get(timeout=20) for job in [gevent.spawn(add, n) for n in range(5)]]
connection = rpyc.connect("127.0.0.1", server.port)
called = connection.root.call(lambda n: n * 2)
try:
    connection.root.fail()
except ValueError as error:
    failed = type(error).__name__.rpartition(".")[2]
connection.close()
server.close()
serving.join(timeout=10)
print(sums, called, failed, serving.ready())
""",
        )

    def test_ws4py_as_server_and_client(self):
        support.need("ws4py")
        self.prints(
            "hi 70000",
            PATCH
            + """
from ws4py.client.geventclient import WebSocketClient
from ws4py.server.geventserver import WSGIServer
from ws4py.server.wsgiutils import WebSocketWSGIApplication
from ws4py.websocket import EchoWebSocket

server = WSGIServer(("127.0.0.1", 0), WebSocketWSGIApplication(handler_cls=EchoWebSocket), log=None)
server.start()
client = WebSocketClient(f"ws://127.0.0.1:{server.server_port}/")
client.connect()
client.send("hi")
first = client.receive()
client.send(b"x" * 70000, binary=True)
print(first, len(client.receive().data))
client.close()
""",
        )

    def test_locust_by_a_master_and_workers(self):
        support.need("locust")
        import subprocess
        import sys
        import tempfile
        from pathlib import Path

        site = self.serves(
            """
            import sys
            from gevent.pywsgi import WSGIServer
            def hello(environ, start_response):
                start_response("200 OK", [("Content-Length", "2")])
                return [b"ok"]
            WSGIServer(("127.0.0.1", int(sys.argv[1])), hello, log=None).serve_forever()
            """,
            port := support.free_port(), port=port,
        )  # fmt: skip
        folder = tempfile.TemporaryDirectory(prefix="weald-locust-")
        self.addCleanup(folder.cleanup)
        # All begin at once, by a semaphore whose module is gevent's own.
        Path(folder.name, "locustfile.py").write_text(
            """
from gevent._semaphore import Semaphore
from locust import FastHttpUser, HttpUser, constant, events, task

all_are_there = Semaphore()
all_are_there.acquire()

@events.spawning_complete.add_listener
def begin(**_):
    all_are_there.release()

class Slow(HttpUser):
    wait_time = constant(0.05)

    def on_start(self):
        all_are_there.wait(timeout=20)

    @task
    def index(self):
        self.client.get("/")

class Fast(FastHttpUser, Slow):
    pass
"""
        )
        bus = support.free_port()
        locust = [sys.executable, "-m", "locust"]
        master = ["--headless", "--master", "--master-bind-host=127.0.0.1", f"--master-bind-port={bus}", "--expect-workers=2",
                  "-u6", "-r6", "-t3", f"--host=http://127.0.0.1:{site.port}", "--only-summary"]  # fmt: skip
        worker = ["--worker", "--master-host=127.0.0.1", f"--master-port={bus}"]
        processes = [
            subprocess.Popen([*locust, *words], cwd=folder.name, env=support.environment(), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for words in (master, worker, worker)
        ]  # fmt: skip
        try:
            outputs = [process.communicate(timeout=support.LIMIT)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        self.assertEqual([process.returncode for process in processes], [0, 0, 0], outputs)
        self.assertRegex(outputs[0], r"Aggregated +[0-9]{2,} +0\(0")
        self.assertNotIn("Traceback", "".join(outputs))


if __name__ == "__main__":
    unittest.main()
