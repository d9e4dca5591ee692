"""The plugin for pytest: what it does with tests, each time by a run of pytest in a process of its own."""
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import support


class Plugin(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        support.need("pytest")

    def run_tests(self, source, *options, ini="", how=("-m", "pytest"), alias=False, **files):
        """Runs pytest on a file of tests: its exit status and what it prints."""
        with tempfile.TemporaryDirectory(prefix="weald-pytest-") as folder:
            for name, text in {"test_it": source, **files}.items():
                Path(folder, f"{name}.py").write_text(textwrap.dedent(text))
            Path(folder, "pytest.ini").write_text("[pytest]\n" + textwrap.dedent(ini))
            env = {key: value for key, value in os.environ.items() if not key.startswith(("GEVENT", "PYTEST", "WEALD"))}
            env.update({"WEALD_AS_GEVENT": "1"} if alias else {})
            done = subprocess.run(
                [sys.executable, *how, "-p", "no:cacheprovider", "-q", *options], cwd=folder, env=env,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=support.LIMIT,
            )  # fmt: skip
        return done.returncode, done.stdout

    def counts(self, *args, **kwargs):
        """{"passed": n, "failed": n, ...} of a run, and its output."""
        _, out = self.run_tests(*args, **kwargs)
        found = re.findall(r"(\d+) (passed|failed|error|skipped|xfailed|warning)s?", out.splitlines()[-1])
        return {name: int(number) for number, name in found}, out

    IN_WHAT = """
        import weald
        from weald.greenlet import getcurrent

        def test_one():
            assert isinstance(getcurrent(), weald.Greenlet)
    """

    def test_only_who_asks_gets_a_greenlet(self):
        self.assertEqual(self.counts(self.IN_WHAT)[0], {"failed": 1})
        self.assertEqual(self.counts(self.IN_WHAT, "--weald")[0], {"passed": 1})
        self.assertEqual(self.counts(self.IN_WHAT, ini="weald = true")[0], {"passed": 1})

    def test_weald_is_not_imported_for_who_does_not_ask(self):
        source = """
            import sys

            def test_one():
                assert "weald" not in sys.modules
        """
        self.assertEqual(self.counts(source)[0], {"passed": 1})
        self.assertEqual(self.counts(source, "--weald")[0], {"failed": 1})

    def test_it_has_no_warning_where_the_alias_is_on(self):
        source = """
            import gevent

            def test_one():
                assert gevent.spawn(int).get() == 0
        """
        for how in ("-m", "pytest"), ("-m", "weald", "run", "-m", "pytest"), ("-m", "weald.monkey", "--module", "pytest"):
            self.assertEqual(self.counts(source, "-W", "error", how=how, alias=True)[0], {"passed": 1}, how)

    def test_a_marker_is_for_one_test(self):
        source = """
            import pytest, weald
            from weald.greenlet import getcurrent

            def in_greenlet():
                return isinstance(getcurrent(), weald.Greenlet)

            @pytest.mark.weald
            def test_marked():
                assert in_greenlet()

            def test_other():
                assert in_greenlet() == ALL

            @pytest.mark.weald(False)
            def test_not():
                assert not in_greenlet()
        """
        self.assertEqual(self.counts("ALL = False\n" + textwrap.dedent(source), "--strict-markers")[0], {"passed": 3})
        self.assertEqual(self.counts("ALL = True\n" + textwrap.dedent(source), "--weald")[0], {"passed": 3})

    def test_every_kind_of_test(self):
        counts, out = self.counts(
            """
            import contextvars, unittest
            import pytest, weald
            from weald.greenlet import getcurrent

            name = contextvars.ContextVar("name", default="none")

            @pytest.fixture
            def named():
                token = name.set("oak")
                yield
                name.reset(token)

            def test_waits():
                weald.joinall([weald.spawn(weald.sleep, 0.01) for _ in range(10)])

            def test_fails():
                weald.sleep(0)
                assert [1, 2] == [1, 3]

            def test_skips():
                pytest.skip("for a reason")

            @pytest.mark.xfail(strict=True)
            def test_is_known_to_fail():
                raise KeyError("tree")

            def test_sees_the_variables_of_a_fixture(named):
                assert name.get() == "oak"

            @pytest.mark.parametrize("n", [1, 2])
            def test_parameters(n, tmp_path):
                (tmp_path / "x").write_text(str(n))

            class Old(unittest.TestCase):
                def setUp(self):
                    assert isinstance(getcurrent(), weald.Greenlet)

                def test_one(self):
                    weald.sleep(0)

                @unittest.skip("old")
                def test_two(self):
                    pass
            """,
            "--weald",
        )
        self.assertEqual(counts, {"passed": 5, "failed": 1, "skipped": 2, "xfailed": 1}, out)
        # The traceback is the test's own, and pytest's introspection works.
        self.assertIn("assert [1, 2] == [1, 3]", out)
        self.assertNotIn("_run_in_greenlet", out)

    def test_exceptions_that_end_the_run(self):
        status, out = self.run_tests(
            """
            import pytest

            def test_ends_all():
                pytest.exit("enough", returncode=7)

            def test_never():
                print("never reached")
            """,
            "--weald", "-s",
        )  # fmt: skip
        self.assertEqual(status, 7, out)
        self.assertNotIn("never reached", out)

    def test_keyboard_interrupt(self):
        status, out = self.run_tests(
            """
            import os, signal, threading, weald

            def test_sleeps():
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                try:
                    weald.sleep(30)
                finally:
                    print("the greenlet has ended")
            """,
            "--weald", "-s",
        )  # fmt: skip
        self.assertEqual(status, 2, out)
        self.assertIn("the greenlet has ended", out)

    SLEEPER = """
        import pytest, weald
        from weald.event import Event

        def wait_for_it():
            try:
                Event().wait(30)
            except Exception:
                print("taken for its own")

        def test_sleeps():
            wait_for_it()

        @pytest.mark.weald(timeout=20)
        def test_has_its_own_limit():
            weald.sleep(0.4)
    """

    def test_a_limit_ends_a_test_where_it_waits(self):
        for words in {"options": ["--weald-timeout=0.2"]}, {"ini": "weald_timeout = 0.2"}:
            counts, out = self.counts(
                self.SLEEPER, "--weald", *words.get("options", ()), ini=words.get("ini", ""),
            )  # fmt: skip
            self.assertEqual(counts, {"passed": 1, "failed": 1}, out)
            self.assertIn("Failed: the test has taken longer than 0.2 s", out)
            self.assertIn("Event().wait(30)", out)
            self.assertNotIn("taken for its own", out)

    def test_a_deadlock_is_told(self):
        counts, out = self.counts(
            """
            from weald.event import Event

            def test_waits():
                Event().wait()
            """,
            "--weald",
        )
        self.assertEqual(counts, {"failed": 1}, out)
        self.assertRegex(out, "LoopExit: .*would block forever")
        self.assertRegex(out, "body> waits in Event.wait")
        self.assertRegex(out, r"> +Event\(\)\.wait\(\)")

    LEAKS = """
        import os, pytest, socket, weald
        kept = []

        def forever():
            weald.sleep(1000)

        def test_greenlet():
            weald.spawn(forever)
            weald.sleep(0)

        def test_raw_greenlet():
            from weald.greenlet import getcurrent, greenlet
            kept.append(greenlet(lambda: getcurrent().parent.switch()))
            kept[-1].switch()

        def test_watcher():
            weald.get_hub().loop.timer(1000).start(print)

        def test_descriptor():
            kept.append(socket.socket())
    """

    def test_what_is_left_is_an_error_of_the_test(self):
        counts, out = self.counts(self.LEAKS, "--weald")
        # The tests themselves pass; that they leave something is an error of their end. What one has left is not
        # told again of the next.
        self.assertEqual(counts, {"passed": 4, "error": 4}, out)
        self.assertRegex(out, "<Greenlet at .*forever>.*which waits in sleep")
        self.assertIn("weald.sleep(1000)", out)
        self.assertRegex(out, "<timer at")
        self.assertRegex(out, r"descriptor \d+, socket:")

    def test_leaks_may_be_warnings_or_nothing(self):
        counts, out = self.counts(self.LEAKS, "--weald", "--weald-leaks=warn")
        self.assertEqual(counts, {"passed": 4, "warning": 4}, out)
        self.assertEqual(self.counts(self.LEAKS, "--weald", "--weald-leaks=off")[0], {"passed": 4})
        self.assertEqual(self.counts(self.LEAKS, "--weald", ini="weald_leaks = off")[0], {"passed": 4})
        status, out = self.run_tests(self.IN_WHAT, "--weald", ini="weald_leaks = perhaps")
        self.assertIn("leaks is one of", out)
        self.assertNotEqual(status, 0)

    def test_what_is_no_leak(self):
        counts, out = self.counts(
            """
            import socket
            import pytest, weald
            from weald.server import StreamServer

            @pytest.fixture(scope="module")
            def server():
                server = StreamServer(("127.0.0.1", 0), lambda sock, address: sock.sendall(b"oak"))
                server.start()
                yield server
                server.stop()

            @pytest.fixture
            def client(server):
                with weald.socket.create_connection(("127.0.0.1", server.server_port)) as sock:
                    yield sock

            @pytest.fixture
            def ticker():
                greenlet = weald.spawn(weald.sleep, 1000)
                yield greenlet
                greenlet.kill()

            def test_fixtures(client, ticker):
                assert client.recv(10) == b"oak"

            def test_fixtures_again(client, ticker):
                assert client.recv(10) == b"oak"

            def test_ends_by_itself():
                weald.spawn(weald.sleep, 0.02)

            def test_a_socket_that_is_garbage():
                circle = [socket.socket()]
                circle.append(circle)

            def test_threads():
                assert weald.get_hub().threadpool.apply(len, ("oak",)) == 3

            def test_names():
                weald.socket.getaddrinfo("localhost", 80)

            def test_processes():
                assert weald.subprocess.check_output(["/bin/echo", "oak"]) == b"oak\\n"
            """.replace("import pytest, weald", "import pytest, weald, weald.socket, weald.subprocess"),
            "--weald", "-W", "ignore::pytest.PytestUnraisableExceptionWarning",
        )  # fmt: skip
        self.assertEqual(counts, {"passed": 7}, out)

    def test_with_the_standard_library_patched(self):
        counts, out = self.counts(
            """
            import threading, time

            def test_threads_are_greenlets():
                began = time.monotonic()
                threads = [threading.Thread(target=time.sleep, args=(0.1,)) for _ in range(20)]
                [thread.start() for thread in threads]
                [thread.join() for thread in threads]
                assert time.monotonic() - began < 1
            """,
            "--weald",
            conftest="from weald import monkey; monkey.patch_all()",
        )
        self.assertEqual(counts, {"passed": 1}, out)


if __name__ == "__main__":
    unittest.main()
