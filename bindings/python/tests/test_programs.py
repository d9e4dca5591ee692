"""Small programs as people write them for gevent, run as they are, and what they print."""
import socket
import time
import unittest

import support


class Greenlets(support.TestCase):
    def test_switches_are_explicit_and_in_order(self):
        self.prints(
            """
            saw
            plane
            saw again
            plane again
            """,
            """
            import gevent

            def work(tool):
                print(tool)
                gevent.sleep(0)
                print(tool, "again")

            gevent.joinall([gevent.spawn(work, "saw"), gevent.spawn(work, "plane")])
            """,
        )

    def test_states_and_results(self):
        done = support.run(
            """
            import gevent

            def good():
                return 42

            def bad():
                raise ValueError("knot")

            first, second = gevent.spawn(good), gevent.spawn(bad)
            print(first.started, second.started, first.ready())
            gevent.joinall([first, second])
            print(first.value, second.value, first.successful(), second.successful(), repr(second.exception))
            try:
                second.get()
            except ValueError as problem:
                print("again", problem)
            """
        )
        self.assertEqual(done.status, 0, done)
        self.assertEqual(done.out.splitlines(), ["True True False", "42 None True False ValueError('knot')", "again knot"])
        self.assertIn("ValueError: knot", done.err)

    def test_a_subclass_has_its_own_run(self):
        self.prints(
            "oak 0.01",
            """
            import gevent

            class Tree(gevent.Greenlet):
                def __init__(self, name, delay):
                    super().__init__()
                    self.name_of_tree, self.delay = name, delay

                def _run(self):
                    gevent.sleep(self.delay)
                    print(self.name_of_tree, self.delay)

            tree = Tree("oak", 0.01)
            tree.start()
            tree.join()
            """,
        )

    def test_many_sleep_at_once(self):
        lines = self.succeeds(
            """
            import time, gevent
            began = time.time()
            gevent.joinall([gevent.spawn(gevent.sleep, 0.3) for _ in range(1000)])
            print(time.time() - began)
            """
        )
        self.assertGreater(float(lines[0]), 0.29)
        self.assertLess(float(lines[0]), 3)

    def test_kill_and_links(self):
        self.prints(
            """
            cleaned up
            linked GreenletExit
            late link
            """,
            """
            import gevent

            def forever():
                try:
                    gevent.sleep(1000)
                finally:
                    print("cleaned up")

            g = gevent.spawn(forever)
            g.link(lambda which: print("linked", type(which.value).__name__))
            gevent.sleep(0)
            g.kill()
            gevent.sleep(0.01)
            g.link(lambda which: print("late link"))
            gevent.sleep(0.01)
            """,
        )

    def test_raw_greenlets(self):
        self.prints(
            """
            up 1
            down 1
            up 2
            down 2
            back in main
            """,
            """
            from greenlet import greenlet

            def up():
                print("up 1"); two.switch(); print("up 2"); two.switch()

            def down():
                print("down 1"); one.switch(); print("down 2")

            one, two = greenlet(up), greenlet(down)
            one.switch()
            print("back in main")
            """,
        )

    def test_a_hub_by_hand(self):
        lines = self.succeeds(
            """
            import time, gevent.core, greenlet
            loop = gevent.core.loop()
            hub = greenlet.greenlet(loop.run)

            def sleep(seconds):
                timer = loop.timer(seconds)
                timer.start(greenlet.getcurrent().switch)
                hub.switch()

            began = time.time()
            for _ in range(3):
                sleep(0.1)
            print(time.time() - began)
            """
        )
        self.assertTrue(0.29 < float(lines[0]) < 2, lines)

    def test_a_signal_handler_is_a_greenlet(self):
        self.prints(
            "handled",
            """
            import gevent, os, signal
            worker = gevent.spawn(gevent.sleep, 1000)

            def handle():
                gevent.sleep(0.01)
                print("handled")
                worker.kill()

            gevent.signal_handler(signal.SIGUSR1, handle)
            gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
            worker.join()
            """,
        )

    def test_a_deadlock_is_named(self):
        done = support.run("import gevent.event; gevent.event.Event().wait()")
        self.assertEqual(done.status, 1, done)
        self.assertIn("LoopExit", done.err)


class Timeouts(support.TestCase):
    def test_the_ways_to_give_one(self):
        self.prints(
            """
            started
            with
            silent
            own class
            join
            get
            with_timeout
            default
            """,
            """
            import gevent
            from gevent import Timeout

            class TooLong(Exception):
                pass

            timeout = Timeout(0.02); timeout.start()
            try:
                gevent.sleep(5)
            except Timeout as which:
                print("started" if which is timeout else "another")
            try:
                with Timeout(0.02):
                    gevent.sleep(5)
            except Timeout:
                print("with")
            with Timeout(0.02, False):
                gevent.sleep(5)
                print("not reached")
            print("silent")
            try:
                with Timeout(0.02, TooLong):
                    gevent.sleep(5)
            except TooLong:
                print("own class")
            worker = gevent.spawn(gevent.sleep, 5)
            worker.join(timeout=0.02)
            print("finished" if worker.ready() else "join")
            try:
                worker.get(timeout=0.02)
            except Timeout:
                print("get")
            try:
                gevent.with_timeout(0.02, gevent.sleep, 5)
            except Timeout:
                print("with_timeout")
            print(gevent.with_timeout(0.02, gevent.sleep, 5, timeout_value="default"))
            """,
        )


class Communication(support.TestCase):
    def test_events_and_results(self):
        self.prints(
            """
            waiting
            waiting
            set
            ash
            ash
            """,
            """
            import gevent
            from gevent.event import AsyncResult, Event
            event, result = Event(), AsyncResult()

            def waiter():
                print("waiting")
                event.wait()
                print(result.get())

            def setter():
                gevent.sleep(0.05)
                print("set")
                event.set()
                gevent.sleep(0.01)
                result.set("ash")

            gevent.joinall([gevent.spawn(waiter), gevent.spawn(waiter), gevent.spawn(setter)])
            """,
        )

    def test_a_bounded_queue_hands_out_work(self):
        lines = self.succeeds(
            """
            import gevent
            from gevent.queue import Empty, Queue
            tasks, seen = Queue(maxsize=3), []

            def worker(name):
                try:
                    while True:
                        seen.append((name, tasks.get(timeout=0.3)))
                        gevent.sleep(0)
                except Empty:
                    print("done", name)

            def boss():
                for number in range(20):
                    tasks.put(number)
                print("assigned")

            gevent.joinall([gevent.spawn(boss)] + [gevent.spawn(worker, name) for name in "abc"])
            print([number for _, number in seen] == list(range(20)), len({name for name, _ in seen}))
            """
        )
        self.assertEqual(lines[0], "assigned")
        self.assertEqual(sorted(lines[1:4]), ["done a", "done b", "done c"])
        self.assertEqual(lines[4], "True 3")

    def test_groups_and_pools(self):
        self.prints(
            """
            [0, 1, 4, 9]
            [('task', 0), ('task', 1), ('task', 2)]
            [('task', 2), ('task', 1), ('task', 0)]
            2
            """,
            """
            import gevent
            from gevent.pool import Group, Pool

            def late(n):
                gevent.sleep((3 - n) * 0.05)
                return "task", n

            print(Group().map(lambda n: n * n, range(4)))
            print(list(Group().imap(late, range(3))))
            print(list(Group().imap_unordered(late, range(3))))
            pool, most = Pool(2), []
            def count(_):
                most.append(len(pool))
                gevent.sleep(0.01)
            pool.map(count, range(6))
            print(max(most))
            """,
        )

    def test_semaphores_and_locals(self):
        self.prints(
            """
            2
            alder
            birch None
            """,
            """
            import gevent
            from gevent.local import local
            from gevent.lock import BoundedSemaphore

            semaphore, inside, most = BoundedSemaphore(2), [0], [0]

            def work():
                with semaphore:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    gevent.sleep(0.01)
                    inside[0] -= 1

            gevent.joinall([gevent.spawn(work) for _ in range(6)])
            print(most[0])
            mine = local()

            def first():
                mine.x = "alder"
                gevent.sleep(0)
                print(mine.x)

            def second():
                mine.y = "birch"
                print(mine.y, getattr(mine, "x", None))

            a, b = gevent.spawn(first), gevent.spawn_later(0.05, second)
            gevent.joinall([a, b])
            """,
        )

    def test_actors(self):
        self.prints(
            "6",
            """
            import gevent
            from gevent.queue import Queue

            class Actor(gevent.Greenlet):
                def __init__(self):
                    self.inbox = Queue()
                    super().__init__()

                def _run(self):
                    self.running = True
                    while self.running:
                        self.receive(self.inbox.get())

            class Player(Actor):
                heard = 0

                def receive(self, ball):
                    Player.heard += 1
                    self.other.inbox.put(ball - 1)
                    if ball <= 0:
                        self.running = False

            one, two = Player(), Player()
            one.other, two.other = two, one
            one.start(); two.start()
            one.inbox.put(4)
            gevent.joinall([one, two], timeout=5)
            print(Player.heard)
            """,
        )


class Waiting(support.TestCase):
    def test_select_lets_others_run(self):
        lines = self.succeeds(
            """
            import time, gevent
            from gevent import select
            began = time.time()
            def wait():
                select.select([], [], [], 0.5)
                return time.time() - began
            waiters = [gevent.spawn(wait) for _ in range(5)]
            gevent.joinall(waiters)
            print(max(waiter.value for waiter in waiters))
            """
        )
        self.assertTrue(0.49 < float(lines[0]) < 1.5, lines)

    def test_a_child_process_is_waited_for_while_others_run(self):
        lines = self.succeeds(
            """
            import gevent
            from gevent.subprocess import PIPE, Popen

            ticks = []
            def tick():
                while True:
                    ticks.append(1)
                    gevent.sleep(0.05)

            ticker = gevent.spawn(tick)
            child = Popen("sleep 0.5; echo timber", stdout=PIPE, shell=True)
            out, err = child.communicate()
            ticker.kill()
            print(out.strip().decode(), child.returncode, len(ticks) >= 5)
            """
        )
        self.assertEqual(lines, ["timber 0 True"])

    def test_a_pipe_of_multiprocessing_is_waited_for(self):
        self.prints(
            """
            plank in 0
            plank in 1
            plank in 2
            """,
            """
            import gevent
            from multiprocessing import Pipe, Process
            from gevent.socket import wait_read, wait_write

            a, b = Pipe()
            c, d = Pipe()

            def relay():
                for number in range(3):
                    c.send(f"{b.recv()} in {number}")

            def put():
                for _ in range(3):
                    wait_write(a.fileno())
                    a.send("plank")

            def get():
                for _ in range(3):
                    wait_read(d.fileno())
                    print(d.recv())

            if __name__ == "__main__":
                child = Process(target=relay)
                child.start()
                gevent.joinall([gevent.spawn(get), gevent.spawn(put)], timeout=20)
                child.join()
            """,
        )

    def test_patched_urllib_fetches_at_once(self):
        lines = self.succeeds(
            """
            from gevent import monkey; monkey.patch_all()
            import threading, time, urllib.request
            import gevent
            from gevent.pywsgi import WSGIServer

            def slow(environ, start_response):
                time.sleep(0.3)
                start_response("200 OK", [])
                return [environ["PATH_INFO"].encode()]

            server = WSGIServer(("127.0.0.1", 0), slow, log=None)
            server.start()
            url = f"http://127.0.0.1:{server.server_port}/"
            began = time.time()
            found = []
            threads = [
                threading.Thread(target=lambda n=n: found.append(urllib.request.urlopen(f"{url}{n}").read()))
                for n in range(10)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(sorted(found) == [b"/%d" % n for n in range(10)], time.time() - began < 2)
            """
        )
        self.assertEqual(lines, ["True True"])


class Servers(support.TestCase):
    def test_a_stream_server_talks(self):
        port = support.free_port()
        self.serves(
            """
            import sys
            from gevent.server import StreamServer

            def handle(sock, address):
                sock.send(b"hello\\n")
                for n in range(3):
                    sock.send(b"%d\\n" % n)

            StreamServer(("127.0.0.1", int(sys.argv[1])), handle).serve_forever()
            """,
            port, port=port,
        )  # fmt: skip
        self.assertEqual(support.http(port, b""), b"hello\n0\n1\n2\n")

    def test_echo_with_patched_threads(self):
        port = support.free_port()
        self.serves(
            """
            import gevent.monkey; gevent.monkey.patch_all()
            import socket, sys, threading

            def echo(sock):
                try:
                    while data := sock.recv(1024):
                        sock.sendall(data)
                finally:
                    sock.close()

            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", int(sys.argv[1]))); listener.listen(50)
            while True:
                client, _ = listener.accept()
                threading.Thread(target=echo, args=(client,)).start()
            """,
            port, port=port,
        )  # fmt: skip
        clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(20)]
        for number, client in reversed(list(enumerate(clients))):
            client.sendall(b"%d" % number)
            self.assertEqual(client.recv(100), b"%d" % number)
        for client in clients:
            client.close()

    def test_a_long_poll_streams(self):
        port = support.free_port()
        self.serves(
            """
            import json, sys
            import gevent
            from gevent.pywsgi import WSGIServer
            from gevent.queue import Empty, Queue

            source = Queue()

            def produce():
                while True:
                    source.put_nowait("leaf")
                    gevent.sleep(0.1)

            def poll(environ, start_response):
                start_response("200 OK", [("Content-Type", "application/json")])
                while True:
                    try:
                        yield (json.dumps(source.get(timeout=5)) + "\\n").encode()
                    except Empty:
                        pass

            gevent.spawn(produce)
            WSGIServer(("127.0.0.1", int(sys.argv[1])), poll).serve_forever()
            """,
            port, port=port,
        )  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            data, began = b"", time.monotonic()
            while data.count(b'"leaf"\n') < 5 and time.monotonic() - began < 20:
                data += sock.recv(4096)
        self.assertGreaterEqual(data.count(b'"leaf"\n'), 5, data)

    def test_a_value_of_the_request_is_local_to_its_greenlet(self):
        support.need("werkzeug")
        port = support.free_port()
        self.serves(
            """
            import sys
            import gevent
            from contextlib import contextmanager
            from gevent.local import local
            from gevent.pywsgi import WSGIServer
            from werkzeug.local import LocalProxy
            from werkzeug.wrappers import Request

            requests = local()
            request = LocalProxy(lambda: requests.current)

            @contextmanager
            def session(environ):
                requests.current = Request(environ)
                yield
                requests.current = None

            def application(environ, start_response):
                with session(environ):
                    gevent.sleep(0.1)
                    body = request.path.encode()
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [body]

            WSGIServer(("127.0.0.1", int(sys.argv[1])), application, log=None).serve_forever()
            """,
            port, port=port,
        )  # fmt: skip
        clients = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(10)]
        for number, client in enumerate(clients):
            client.sendall(b"GET /%d HTTP/1.0\r\n\r\n" % number)
        for number, client in enumerate(clients):
            data = b""
            while part := client.recv(4096):
                data += part
            client.close()
            self.assertTrue(data.endswith(b"\r\n\r\n/%d" % number), data)


if __name__ == "__main__":
    unittest.main()
