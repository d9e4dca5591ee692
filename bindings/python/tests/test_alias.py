"""`import gevent` and `import greenlet` mean weald where that was asked for, and nowhere else."""
import py_compile
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipapp
from pathlib import Path

import support

# Whoever asks for the alias gets all of these; the last are what other packages import though they should not.
NAMES = """
gevent greenlet gevent.backdoor gevent.baseserver gevent.builtins gevent.contextvars gevent.core gevent.event gevent.events
gevent.exceptions gevent.fileobject gevent.greenlet gevent.hub gevent.local gevent.lock gevent.monkey gevent.os gevent.pool
gevent.pywsgi gevent.queue gevent.resolver gevent.resolver.thread gevent.resolver.blocking gevent.select gevent.selectors
gevent.server gevent.signal gevent.socket gevent.ssl gevent.subprocess gevent.thread gevent.threading gevent.threadpool
gevent.time gevent.timeout gevent.util gevent._compat gevent._config gevent._hub_local gevent._hub_primitives gevent._util
gevent._socketcommon gevent._fileobjectcommon gevent._fileobjectposix gevent._ident
""".split()


class Alias(support.TestCase):
    def test_all_modules_are_there_and_are_ours(self):
        self.prints(
            "ok",
            f"""
            import importlib, sys
            for name in {NAMES!r}:
                module = importlib.import_module(name)
                assert module.__name__.startswith("weald"), (name, module)
                assert module.__spec__.name == module.__name__, (name, module.__spec__)
                assert sys.modules[name] is sys.modules[module.__name__], name
            import gevent, weald
            assert gevent is weald and gevent.queue is weald.queue
            import greenlet
            assert greenlet.greenlet is not None and issubclass(gevent.Greenlet, greenlet.greenlet)
            print("ok")
            """,
        )

    def test_top_level_names(self):
        self.prints(
            "[]",
            """
            import gevent
            names = '''Greenlet GreenletExit Timeout config fork get_hub getcurrent getswitchinterval setswitchinterval
            idle iwait wait joinall kill killall reinit signal_handler sleep spawn spawn_later spawn_raw with_timeout
            __version__ version_info'''.split()
            print([name for name in names if not hasattr(gevent, name)])
            """,
        )

    def test_greenlet_is_loaded_with_gevent(self):
        self.prints(
            "True True True",
            """
            import sys
            import gevent
            loaded = "greenlet" in sys.modules and "greenlet._greenlet" in sys.modules
            import greenlet
            from greenlet import _greenlet
            print(loaded, greenlet is _greenlet is sys.modules["greenlet"], issubclass(gevent.Greenlet, greenlet.greenlet))
            """,
        )

    def test_modules_that_gevent_keeps_for_itself(self):
        self.prints(
            "True True True True True True",
            """
            import gevent
            from gevent import _semaphore
            from gevent._semaphore import BoundedSemaphore, Semaphore
            from gevent._gevent_cqueue import Queue
            from gevent._gevent_cevent import AbstractLinkable, Event
            from gevent._gevent_c_waiter import Waiter
            from gevent._abstract_linkable import AbstractLinkable as also
            from gevent._socket3 import socket
            import gevent.event, gevent.hub, gevent.lock, gevent.queue, gevent.socket
            print(_semaphore.Semaphore is Semaphore is gevent.lock.Semaphore, Queue is gevent.queue.Queue,
                  Event is gevent.event.Event and AbstractLinkable is also and issubclass(Event, also),
                  Waiter is gevent.hub.Waiter, socket is gevent.socket.socket,
                  gevent.version_info.releaselevel == "final")
            """,
        )

    def test_what_is_loaded_is_loaded_under_both_names(self):
        self.prints(
            "True True",
            """
            import sys
            from gevent import monkey, queue
            print(sys.modules["gevent.monkey"] is monkey, sys.modules["gevent.queue"] is queue)
            """,
        )

    def test_the_variable_alone_turns_it_on(self):
        self.prints(
            "True True True False",
            """
            import sys
            early = "weald" in sys.modules
            import gevent, weald
            print(gevent is weald, weald.os is sys.modules["gevent.os"], gevent.__version__ > "24", early)
            """,
            how="plain",
        )

    def test_unknown_modules_are_not_found(self):
        self.prints(
            """
            ModuleNotFoundError gevent.nonsense
            ImportError
            None
            """,
            """
            try:
                import gevent.nonsense
            except ImportError as problem:
                print(type(problem).__name__, problem.name)
            try:
                from gevent import nonsense
            except ImportError as problem:
                print(type(problem).__name__)
            import gevent
            print(getattr(gevent, "nonsense", None))
            """,
        )

    def test_version_checks_are_answered(self):
        self.prints(
            "True True 26.9.0 3.5.6",
            """
            import importlib.metadata
            import gevent
            version = tuple(map(int, gevent.__version__.split(".")))
            print(version >= (24, 10, 1), gevent.version_info[:2] >= (24, 10),
                  importlib.metadata.version("gevent"), importlib.metadata.version("greenlet"))
            """,
        )

    def test_patches_are_seen_under_both_names(self):
        self.prints(
            "patched",
            """
            from unittest import mock
            import gevent.socket, weald.socket
            with mock.patch("gevent.socket.create_connection", "patched"):
                print(weald.socket.create_connection)
            """,
        )

    def test_children_have_it_as_well(self):
        folder = tempfile.TemporaryDirectory(prefix="weald-alias-")
        self.addCleanup(folder.cleanup)
        Path(folder.name, "whoami.py").write_text("import gevent; print(gevent.__name__)")
        self.prints(
            """
            weald
            weald
            """,
            """
            import multiprocessing, os, subprocess, sys

            def child():
                import gevent
                print(gevent.__name__, flush=True)

            if __name__ == "__main__":
                subprocess.run([sys.executable, "-m", "weald", "run", "-m", "whoami"], check=True, cwd=os.getcwd())
                process = multiprocessing.get_context("spawn").Process(target=child)
                process.start()
                process.join()
            """,
            cwd=folder.name,
        )

    def test_it_is_off_unless_asked_for(self):
        done = support.run("import weald, importlib.util; print(importlib.util.find_spec('gevent'))", how="plain", WEALD_AS_GEVENT="")
        self.assertEqual(done.status, 0, done)
        self.assertNotIn("weald", done.out)

    def test_install_in_code(self):
        self.prints(
            """
            weald
            weald.greenlet
            """,
            """
            import weald
            weald.install_as_gevent()
            weald.install_as_gevent()
            import gevent, greenlet
            print(gevent.__name__)
            print(greenlet.__name__)
            """,
            how="plain", WEALD_AS_GEVENT="",
        )  # fmt: skip


class Command(support.TestCase):
    def test_run_passes_arguments_and_status(self):
        done = support.run("import sys; print(sys.argv[1:], __name__); sys.exit(7)", "a", "--b")
        self.assertEqual((done.status, done.out), (7, "['a', '--b'] __main__\n"), done)

    def test_run_is_as_the_interpreter_runs_it(self):
        source = """
            import atexit, os, pickle, sys, threading
            import __main__
            os.chdir("/")
            print(os.path.isabs(__file__), sys.path[0] == os.path.dirname(__file__), sys.argv[0], __spec__, __package__, __doc__,
                  sorted(name for name in vars(__main__) if name.startswith("__")))
            class Tree:
                pass
            def later():
                print(type(pickle.loads(pickle.dumps(Tree()))) is Tree)
            atexit.register(later)
            threading.Timer(0.2, later).start()
            """
        words, file = support.command(source)
        self.addCleanup(shutil.rmtree, file.parent)
        ran, plain = (
            subprocess.run([*start, file.name], cwd=file.parent, env=support.environment(), capture_output=True, text=True,
                           timeout=support.LIMIT) for start in (words[:4], words[:1])
        )  # fmt: skip
        self.assertEqual((ran.stdout, ran.stderr), (plain.stdout, ""))
        self.assertEqual(plain.stdout.split()[-2:], ["True", "True"])

    def test_run_takes_a_directory(self):
        with tempfile.TemporaryDirectory(prefix="weald-program-") as folder:
            Path(folder, "__main__.py").write_text("import gevent; print(__name__, gevent.__name__)")
            done = subprocess.run([sys.executable, "-m", "weald", "run", folder], env=support.environment(), capture_output=True,
                                  text=True, timeout=support.LIMIT)  # fmt: skip
            self.assertEqual((done.returncode, done.stdout), (0, "__main__ weald\n"), done)

    def test_run_takes_an_archive_and_what_is_compiled(self):
        source = "import gevent, sys; print(__name__, gevent.__name__, sys.argv[1:])\nprint(__import__('more').VALUE)"
        with tempfile.TemporaryDirectory(prefix="weald-program-") as folder:
            program, more = Path(folder, "source", "__main__.py"), Path(folder, "source", "more.py")
            program.parent.mkdir()
            program.write_text(source)
            more.write_text("VALUE = 5")
            zipapp.create_archive(program.parent, Path(folder, "app.pyz"), interpreter=sys.executable)
            compiled = Path(folder, "program.pyc")
            py_compile.compile(str(program), str(compiled), doraise=True)
            shutil.copy(more, folder)
            shutil.copy(compiled, Path(folder, "program"))  # one is known by how it begins
            for name in "app.pyz", "program.pyc", "program":
                for how in ["weald", "run"], ["weald.monkey"]:
                    done = subprocess.run([sys.executable, "-m", *how, name, "a"], env=support.environment(), capture_output=True,
                                          text=True, timeout=support.LIMIT, cwd=folder)  # fmt: skip
                    with self.subTest(name=name, how=how):
                        self.assertEqual((done.returncode, done.stdout), (0, "__main__ weald ['a']\n5\n"), done)

    def test_the_self_test_passes(self):
        done = support.run("import runpy, sys; sys.argv = ['weald']; runpy.run_module('weald', run_name='__main__')", how="plain")
        self.assertEqual(done.status, 0, done)
        self.assertIn("weald 0.", done.out)
        self.assertNotIn("FAILED", done.out)

    def test_monkey_patches_and_aliases(self):
        self.prints(
            "weald.socket weald.hub ['x']",
            """
            import socket, sys, time
            import gevent
            print(socket.socket.__module__, "weald.hub" if time.sleep is gevent.sleep else time.sleep, sys.argv[1:])
            """,
            "x", how="monkey",
        )  # fmt: skip


if __name__ == "__main__":
    unittest.main()
