"""What sockets, waits for descriptors and the locks of threads have in C, and that it keeps no reference."""
import gc
import os
import socket as standard
import sys
import tempfile
import unittest
from unittest import mock

import support
import weald
import weald.event
from weald import lock, socket, thread, threading, timeout
from weald.server import StreamServer


def quietly(function):
    """Calls it in another greenlet, whose failure nobody is told of but us."""
    found = weald.event.AsyncResult()

    def call():
        try:
            found.set(function())
        except Exception as problem:
            found.set_exception(problem)

    weald.spawn(call)
    return found.get()


class SocketTest(unittest.TestCase):
    def setUp(self):
        self.a, self.b = socket.socketpair()
        self.addCleanup(self.a.close)
        self.addCleanup(self.b.close)

    def test_reading_of_every_size(self):
        # Up to 64 KiB come by way of a buffer that all share.
        for size in 1, 100, 65535, 65536, 65537, 200000:
            data = bytes(range(256)) * (size // 256 + 1)
            sender = weald.spawn(self.a.sendall, data[:size])
            got = b""
            while len(got) < size:
                part = self.b.recv(size)
                self.assertTrue(0 < len(part) <= size)
                got += part
            self.assertEqual(got, data[:size])
            sender.get()

    def test_many_read_at_once(self):
        pairs = [socket.socketpair() for _ in range(50)]
        readers = [weald.spawn(b.recv, 4096) for _, b in pairs]
        weald.sleep(0)
        for n, (a, _) in enumerate(pairs):
            a.send(b"%d" % n)
        self.assertEqual([reader.get() for reader in readers], [b"%d" % n for n in range(50)])
        for pair in pairs:
            for sock in pair:
                sock.close()

    def test_arguments(self):
        self.a.sendall(data=b"abcdefgh", flags=0)
        self.assertEqual(self.b.recv(bufsize=2, flags=standard.MSG_PEEK), b"ab")
        self.assertEqual(self.b.recv(1), b"a")
        self.assertEqual(self.b.recv(0), b"")
        buffer = bytearray(5)
        self.assertEqual(self.b.recv_into(buffer, 2), 2)
        self.assertEqual(self.b.recv_into(buffer=buffer, flags=standard.MSG_PEEK), 5)
        self.assertEqual(buffer, b"defgh")
        self.assertEqual(self.a.send(b"xy", timeout=None), 2)
        for wrong in (
            lambda: self.b.recv(),
            lambda: self.b.recv("1"),
            lambda: self.b.recv(1, 2, 3),
            lambda: self.b.recv(1, size=1),
            lambda: self.b.recv(1, bufsize=1),
            lambda: self.b.recv(1, "flags"),
            lambda: self.b.recv_into(b"read only"),
            lambda: self.a.send("text"),
            lambda: self.a.sendall(None),
            lambda: self.a.settimeout("1"),
            lambda: socket.wait_read(),
            lambda: socket.wait_read(0, deadline=1),
        ):
            self.assertRaises(TypeError, wrong)
        self.assertRaises(ValueError, self.b.recv, -1)
        self.assertRaises(ValueError, self.a.settimeout, -1)

    def test_datagrams_are_cut_off(self):
        a, b = socket.socketpair(type=standard.SOCK_DGRAM)
        for _ in range(2):
            a.send(b"x" * 100)
        self.assertEqual(b.recv(10), b"x" * 10)
        self.assertEqual(b.recv(10, standard.MSG_TRUNC), b"x" * 10)
        a.close()
        b.close()

    def test_without_waiting(self):
        self.a.setblocking(False)
        self.assertEqual(self.a.gettimeout(), 0.0)
        buffer = bytearray(1)
        self.assertRaises(BlockingIOError, self.a.recv, 1)
        self.assertRaises(BlockingIOError, self.a.recv_into, buffer)
        self.assertRaises(BlockingIOError, self.a.recv_into, buffer, 1)
        self.assertRaises(BlockingIOError, self.a.sendall, b"x" * (1 << 24))
        self.assertRaises(BlockingIOError, self.a.send, b"x")
        self.assertIsNotNone(self.a._read_event)
        self.assertRaises(BlockingIOError, self.a.recv, 1)

    def test_timeouts(self):
        self.a.settimeout(1)
        self.assertIs(type(self.a.timeout), float)
        self.a.settimeout(0.01)
        self.assertRaises(TimeoutError, self.a.recv, 1)
        self.assertRaises(TimeoutError, self.a.recv_into, bytearray(1))
        # The whole counts, not its parts.
        reader = weald.spawn(self._read_slowly)
        with weald.Timeout(5):
            self.assertRaises(TimeoutError, self.a.sendall, b"x" * (1 << 24))
        reader.kill()

    def _read_slowly(self):
        while True:
            self.b.recv(65536)
            weald.sleep(0.005)

    def test_with_watchers(self):
        for sock in self.a, self.b:
            self.assertIsNotNone(sock._read_event)
            self.assertIsNotNone(sock._write_event)
        reader = weald.spawn(self.b.recv, 100)
        weald.sleep(0)
        self.a.sendall(b"by the watcher")
        self.assertEqual(reader.get(), b"by the watcher")

    def test_in_the_hub_nothing_waits(self):
        found = []

        def call():
            self.a.sendall(b"from the hub")
            found.append(self.b.recv(100))
            try:
                self.b.recv(100)
            except weald.exceptions.BlockingSwitchOutError as problem:
                found.append(type(problem).__name__)

        weald.get_hub().loop.run_callback(call)
        weald.sleep(0.01)
        self.assertEqual(found, [b"from the hub", "BlockingSwitchOutError"])

    def test_closing_ends_a_wait(self):
        weald.spawn_later(0.001, self.a.close)
        self.assertRaises(OSError, self.a.recv, 1)
        self.assertRaises(OSError, self.a.recv, 1)
        self.assertRaises(OSError, self.a.sendall, b"x")

    def test_a_wait_for_a_descriptor(self):
        fd = self.a.fileno()
        self.assertIsNone(socket.wait_write(fd, event=1))
        self.assertIsNone(socket.wait_readwrite(fileno=fd))
        self.assertRaises(TimeoutError, socket.wait_read, fd, 0.001)
        self.assertRaises(KeyError, socket.wait_read, fd, timeout=0.001, timeout_exc=KeyError("late"))
        mine = timeout.Timeout(0.001)
        with self.assertRaises(timeout.Timeout) as raised:
            socket.wait_read(fd, mine)
        self.assertIs(raised.exception, mine)

    def test_it_is_collected(self):
        import weakref

        class Kept(socket.socket):
            pass

        sock = Kept(fileno=self.a.detach())
        sock.me = sock
        seen = weakref.ref(sock)
        sock.close()
        del sock
        gc.collect()
        self.assertIsNone(seen())


class LockTest(unittest.TestCase):
    def test_a_lock(self):
        mutex = thread.allocate_lock()
        self.assertIs(mutex.acquire(), True)
        self.assertIs(mutex.acquire(False), False)
        self.assertIs(mutex.acquire(blocking=True, timeout=0.001), False)
        mutex.release()
        self.assertRaises(RuntimeError, mutex.release)
        with mutex as got:
            self.assertTrue(got and mutex.locked())
        self.assertFalse(mutex.locked())

    def test_an_rlock(self):
        mutex = threading.ThreadRLock()
        with mutex, mutex:
            self.assertEqual(mutex._recursion_count(), 2)
            self.assertIs(weald.spawn(mutex.acquire, False).get(), False)
            self.assertIs(weald.spawn(mutex.acquire, timeout=0.001).get(), False)
            self.assertRaises(RuntimeError, quietly, mutex.release)
        self.assertRaises(RuntimeError, mutex.release)
        self.assertIs(weald.spawn(mutex.acquire, True, -1).get(), True)

    def test_arguments(self):
        for mutex in thread.allocate_lock(), threading.ThreadRLock():
            self.assertRaises(ValueError, mutex.acquire, False, 1)
            self.assertRaises(ValueError, mutex.acquire, True, -2)
            self.assertRaises(OverflowError, mutex.acquire, True, 1e10)
            self.assertRaises(TypeError, mutex.acquire, True, None)
        self.assertRaises(TypeError, thread.LockType, 1)
        self.assertRaises(TypeError, type, "Derived", (thread.LockType,), {})
        self.assertIsInstance(thread.allocate_lock(), lock.BoundedSemaphore)

    def test_who_tries_lets_the_owner_run(self):
        mutex = thread.allocate_lock()
        mutex.acquire()
        owner = weald.spawn(mutex.release)
        tries = 0
        while not mutex.acquire(False):
            tries += 1
        owner.get()
        self.assertLess(tries, 3)

    def test_an_ident(self):
        idents = {weald.spawn(thread.get_ident).get() for _ in range(3)}
        self.assertNotIn(thread.get_ident(), idents)
        other = weald.spawn(int)
        self.assertEqual(thread.get_ident(other), thread.get_ident(gr=other))
        self.assertEqual(thread.get_ident(), thread.get_ident(None))
        self.assertRaises(TypeError, thread.get_ident, 1, 2)


class References(unittest.TestCase):
    def test_none_is_kept(self):
        a, b = socket.socketpair()
        buffer, data = bytearray(10), b"0123456789"
        mutex, again = thread.allocate_lock(), threading.ThreadRLock()

        def everything():
            a.sendall(data)
            b.recv(5)
            b.recv_into(buffer, 5)
            a.send(data, 0)
            b.recv(100000)
            b.settimeout(0)
            for call in (b.recv, 1), (b.recv_into, buffer), (b.recv, "1"), (b.recv, 1, 2, 3), (b.settimeout, -1):
                try:
                    call[0](*call[1:])
                except (OSError, TypeError, ValueError):
                    pass
            b.settimeout(0.5)
            socket.wait_write(a.fileno(), 1)
            with mutex, again, again:
                thread.get_ident()
            try:
                mutex.acquire(False, 1)
            except ValueError:
                pass

        watched = [data, buffer, a, b, mutex, again, 0.5, None, socket.socket]
        for _ in range(10):
            everything()
        gc.collect()
        blocks, counts = sys.getallocatedblocks(), [sys.getrefcount(one) for one in watched[:6]]
        for _ in range(1000):
            everything()
        gc.collect()
        self.assertEqual([sys.getrefcount(one) for one in watched[:6]], counts)
        self.assertLess(sys.getallocatedblocks() - blocks, 200)
        a.close()
        b.close()


class Accepted(unittest.TestCase):
    def test_what_a_server_takes_is_as_what_a_socket_accepts(self):
        for family, host in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
            with self.subTest(host=host), socket.socket(family) as listener:
                try:
                    listener.bind((host, 0))
                except OSError as problem:
                    self.skipTest(str(problem))
                listener.listen(5)
                taken = []
                server = StreamServer(listener, lambda *given: (taken.append(self.facts(*given)), given[0].sendall(b"x")))
                with self.connected(family, listener) as client:
                    sock, address = listener.accept()
                    expected = self.facts(sock, address, client)
                    sock.close()
                server.start()
                with self.connected(family, listener) as client:
                    self.assertEqual(client.recv(1), b"x")
                    taken[0] = (*taken[0][:-1], taken[0][-1] == client.getsockname())
                self.assertEqual(taken, [expected])
                server.stop()

    def test_a_listener_that_somebody_else_made_blocking_stops_nobody_else(self):
        done = support.run(
            """
            import signal, socket, threading, time
            from weald import _core

            def late(*unused):
                raise KeyError("late")

            with socket.create_server(("127.0.0.1", 0)) as listener:
                taken = []
                thread = threading.Thread(target=lambda: taken.append(_core.accept_now(listener.fileno())))
                thread.start()
                time.sleep(0.2)
                with socket.create_connection(listener.getsockname()) as client:
                    thread.join()
                    print(taken[0][1] == client.getsockname())
                signal.signal(signal.SIGALRM, late)
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                try:
                    _core.accept_now(listener.fileno())
                except KeyError as e:
                    print(e)
            """,
            how="plain", limit=20,
        )  # fmt: skip
        self.assertEqual((done.status, done.out), (0, "True\n'late'\n"), done)

    def test_what_can_not_be_taken_is_closed(self):
        with tempfile.TemporaryDirectory() as folder, standard.socket(standard.AF_UNIX) as listener:
            listener.bind(os.path.join(folder, "s"))
            listener.listen()
            with standard.socket(standard.AF_UNIX) as client:
                client.connect(listener.getsockname())
                with self.assertRaises(OSError):
                    weald._core.accept_now(listener.fileno())  # it has no address of IP
                self.assertEqual(client.recv(1), b"")
        here, there = os.pipe()
        self.addCleanup(os.close, there)
        with mock.patch.object(socket, "_RawSocket", side_effect=MemoryError), self.assertRaises(MemoryError):
            socket._accepted(here, socket.AF_INET, socket.SOCK_STREAM, 0)
        with self.assertRaises(OSError):
            os.fstat(here)

    def connected(self, family, listener):
        client = socket.socket(family)
        client.connect(listener.getsockname())
        self.assertFalse(os.get_blocking(client.fileno()))
        return client

    def facts(self, sock, address, client=None):
        return (sock.family, sock.type, sock.proto, sock.timeout, os.get_blocking(sock.fileno()), sock.get_inheritable(),
                address == client.getsockname() if client else address)  # fmt: skip


if __name__ == "__main__":
    unittest.main()
