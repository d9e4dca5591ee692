"""What may go wrong around greenlets: signals, the interpreter's end, other threads and processes, tools that look on."""
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import unittest
from pathlib import Path

import support
import weald
from test_core import run


def compiled(source):
    """A shared library from C; the test is skipped where there is no compiler."""
    words = os.environ.get("CC", "cc").split()
    if shutil.which(words[0]) is None:
        raise unittest.SkipTest("there is no C compiler")
    folder = tempfile.mkdtemp(prefix="weald-test-")
    file = Path(folder, "part.c")
    file.write_text(textwrap.dedent(source))
    done = subprocess.run([*words, "-shared", "-fPIC", "-O1", "-o", f"{folder}/part.so", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return folder, f"{folder}/part.so"


class Fault(support.TestCase):
    def says(self, expected, source, **env):
        status, out, err = run(source, env={key: str(value) for key, value in env.items()})
        self.assertEqual((status, out.strip()), (0, textwrap.dedent(expected).strip()), err)
        return err


class Signals(Fault):
    def test_one_that_another_thread_is_given_wakes_main(self):
        """The kernel's sleep of main is not interrupted then."""
        for handle, raises in (("lambda *_: told.set()", "no"), ("signal.default_int_handler", "KeyboardInterrupt")):
            self.says(f"woken {raises} True", f"""
                import os, signal, threading, time, weald
                from weald.event import Event
                told = Event()
                signal.signal(signal.SIGUSR1, {handle})
                def other():
                    time.sleep(0.2)
                    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
                    time.sleep(20)
                threading.Thread(target=other, daemon=True).start()
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
                weald.spawn(weald.sleep, 15)
                began = time.monotonic()
                raised = "no"
                try:
                    told.wait(10)
                except KeyboardInterrupt:
                    raised = "KeyboardInterrupt"
                print("woken", raised, time.monotonic() - began < 5)
            """)  # fmt: skip

    def test_one_that_comes_just_before_the_sleep_wakes_main(self):
        """After the last look of the interpreter: the loop's last callback before the sleep raises it."""
        folder, part = compiled("""
            #include <signal.h>
            int left = 1;
            void fire(long w, int what, void *user) { if (left > 0 && --left == 0) raise(SIGINT); }
        """)
        self.addCleanup(shutil.rmtree, folder)
        self.says("interrupted True", f"""
            import ctypes, os, time, weald
            lib = ctypes.CDLL(os.path.join(os.path.dirname(weald.__file__), "libweald.so.0"))
            part = ctypes.CDLL({part!r})
            lib.weald_prepare_watcher.restype = ctypes.c_int64
            weald.sleep(0.001)
            watcher = lib.weald_prepare_watcher(part.fire, None)
            assert lib.weald_watcher_start(ctypes.c_int64(watcher)) == 0
            lib.weald_watcher_unref(ctypes.c_int64(watcher))
            began = time.monotonic()
            try:
                weald.sleep(10)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - began < 5)
        """)  # fmt: skip

    def test_many_at_every_moment(self):
        """Each of them within its time, whatever main was about to do."""
        self.says("500 True", """
            import os, signal, threading, time, weald
            from weald.event import Event
            came, told = [], Event()
            def handler(*_):
                came.append(time.monotonic())
                told.set()
            signal.signal(signal.SIGUSR1, handler)
            sent = []
            def other():
                for n in range(500):
                    time.sleep((n % 50) * 1e-5)
                    sent.append(time.monotonic())
                    os.kill(os.getpid(), signal.SIGUSR1)
                    while len(came) <= n:
                        time.sleep(0.0001)
            keep = weald.spawn(weald.sleep, 60)
            threading.Thread(target=other, daemon=True).start()
            for _ in range(500):
                while not told.wait(20):
                    raise SystemExit("a signal was not seen")
                told.clear()
            print(len(came), max(b - a for a, b in zip(sent, came)) < 2)
        """)  # fmt: skip

    def test_in_a_child_after_a_fork(self):
        self.says("child True\nparent True", """
            import os, signal, threading, time, weald
            from weald.event import Event
            def waits(name):
                told = Event()
                signal.signal(signal.SIGUSR1, lambda *_: told.set())
                def other():
                    time.sleep(0.1)
                    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
                    time.sleep(20)
                threading.Thread(target=other, daemon=True).start()
                weald.spawn(weald.sleep, 8)
                print(name, told.wait(5), flush=True)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
            def child():
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
            weald.sleep(0)
            # A thread that is started has the mask of its starter: it takes the signal, main does not.
            import _thread
            start = threading.Thread.run
            threading.Thread.run = lambda self: (child(), start(self))
            pid = os.fork()
            if pid == 0:
                waits("child")
                os._exit(0)
            os.waitpid(pid, 0)
            waits("parent")
            os._exit(0)
        """)  # fmt: skip

    def test_a_wakeup_descriptor_of_the_programs_own(self):
        self.says("-1 True -1 b'\\n' True", """
            import os, signal, threading, time, weald
            import weald.signal
            weald.sleep(0.001)
            ours = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(ours)
            first, second = os.pipe()
            os.set_blocking(second, False)
            before = weald.signal.set_wakeup_fd(second)
            signal.signal(signal.SIGUSR1, lambda *_: None)
            os.kill(os.getpid(), signal.SIGUSR1)
            after = weald.signal.set_wakeup_fd(-1) == second
            print(before, after, weald.signal.set_wakeup_fd(-1), os.read(first, 10), signal.set_wakeup_fd(-1) == ours)
        """)  # fmt: skip


if __name__ == "__main__":
    unittest.main()
