"""What may go wrong around greenlets: signals, the interpreter's end, threads, processes, tools that look on."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import support
from test_core import run


def compiled(source):
    """A shared library from C; the test is skipped where there is no compiler."""
    words = os.environ.get("CC", "cc").split()
    if shutil.which(words[0]) is None:
        raise unittest.SkipTest("there is no C compiler")
    folder = tempfile.mkdtemp(prefix="weald-test-")
    file = Path(folder, "part.c")
    file.write_text(textwrap.dedent(source))
    made = f"{folder}/part.so"
    done = subprocess.run([*words, "-shared", "-fPIC", "-O1", "-o", made, str(file)], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return folder, made


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


class Ends(Fault):
    def test_threads_that_outlive_the_interpreter(self):
        """It ends such a thread where it asks for the lock, by unwinding it, which must not leave a greenlet."""
        for body in "in_greenlet", "in_raw", "in_hub", "in_callback", "no_greenlet":
            with self.subTest(body):
                err = self.says("last", f"""
                    import os, sys, threading, time, types, weald
                    from weald.greenlet import greenlet
                    class Slow:
                        def __del__(self, sleep=time.sleep, write=os.write):
                            sleep(0.6)
                            write(1, b"last\\n")
                    # Where the end of the interpreter finds it, and gives the lock away.
                    sys.modules["slow"] = types.ModuleType("slow")
                    sys.modules["slow"].kept = Slow()
                    def blocks(sleep=time.sleep):
                        sleep(0.3)
                    def in_greenlet():
                        weald.spawn(blocks).join()
                    def in_raw():
                        greenlet(blocks).switch()
                    def in_hub():
                        weald.spawn(weald.sleep, 0.3)
                        weald.sleep(0.4)
                    def in_callback():
                        weald.get_hub().loop.run_callback(blocks)
                        weald.sleep(10)
                    no_greenlet = blocks
                    threading.Thread(target={body}, daemon=True).start()
                    weald.spawn(weald.sleep, 100)
                    weald.sleep(0.1)
                """)  # fmt: skip
                self.assertEqual(err, "")

    def test_threads_that_end_leave_nothing(self):
        """Greenlets that are suspended when their thread ends run their finally, and their memory comes back."""
        self.says("400 True", """
            import gc, threading, weald
            from weald.greenlet import getcurrent, greenlet
            ended = []
            def raw():
                try:
                    getcurrent().parent.switch()
                finally:
                    ended.append(1)
            def task():
                try:
                    weald.sleep(100)
                finally:
                    ended.append(1)
            def thread():
                kept = [greenlet(raw) for _ in range(10)]
                [one.switch() for one in kept]
                [weald.spawn(task) for _ in range(10)]
                weald.sleep(0)
            def rss():
                with open("/proc/self/statm") as statm:
                    return int(statm.read().split()[1]) * 4096
            def work(n):
                for _ in range(n):
                    one = threading.Thread(target=thread)
                    one.start()
                    one.join()
                gc.collect()
            work(20)
            first, before = len(ended), rss()
            work(100)
            print(first, rss() - before < 4 << 20)
        """)  # fmt: skip

    def test_a_stack_that_c_code_uses_up_is_named(self):
        folder, part = compiled("""
            int deep(int n) { volatile char room[4096]; room[0] = (char)n; return n == 0 ? 0 : deep(n - 1) + room[0]; }
        """)
        self.addCleanup(shutil.rmtree, folder)
        status, out, err = run(f"""
            import ctypes, resource, weald
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            deep = ctypes.CDLL({part!r}).deep
            print(weald.spawn(deep, 100).get(), flush=True)
            weald.spawn(deep, 1000000).get()
        """)
        self.assertTrue(out.strip().lstrip("-").isdigit(), err)
        self.assertEqual(status, -11, err)
        self.assertRegex(err, r"weald: stack overflow in greenlet .*#\d+: its stack of \d+ KiB is used up")

    def test_python_in_a_greenlet_of_c_that_waits_is_told(self):
        """Only Python's own greenlets have the interpreter's state saved."""
        err = self.says("error True\nLoop goes on 7", """
            import ctypes, os, weald
            lib = ctypes.PyDLL(os.path.join(os.path.dirname(weald.__file__), "libweald.so.0"))
            seen = []
            @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
            def of_c(_):
                try:
                    weald.sleep(0.01)
                except Exception as error:
                    seen.append(error)
                weald.spawn(lambda: seen.append(7))
            weald.sleep(0)
            assert lib.weald_go(ctypes.cast(of_c, ctypes.c_void_p), None) == 0
            weald.sleep(0.05)
            print(type(seen[0]).__name__, "C" in str(seen[0]))
            print("Loop goes on", seen[1])
        """)  # fmt: skip
        self.assertEqual(err, "")


class Processes(Fault):
    def test_multiprocessing(self):
        """A child of each kind uses greenlets, while those of the parent go on."""
        for method in "fork", "spawn", "forkserver":
            for patch in "", "from weald import monkey; monkey.patch_all()":
                with self.subTest(method, patched=bool(patch)), tempfile.TemporaryDirectory() as folder:
                    file = Path(folder, "program.py")
                    file.write_text(textwrap.dedent(f"""
                        {patch}
                        import multiprocessing, sys
                        import weald
                        def child(pipe, n):
                            weald.joinall([weald.spawn(weald.sleep, 0.01) for _ in range(10)])
                            pipe.send(sum(one.get() for one in [weald.spawn(lambda k=k: k * n) for k in range(10)]))
                            pipe.close()
                        def main():
                            ticks = []
                            def tick():
                                while True:
                                    weald.sleep(0.001)
                                    ticks.append(1)
                            ticker = weald.spawn(tick)
                            weald.sleep(0.01)
                            context = multiprocessing.get_context({method!r})
                            jobs = []
                            for n in range(3):
                                mine, theirs = context.Pipe()
                                process = context.Process(target=child, args=(theirs, n))
                                process.start()
                                theirs.close()
                                jobs.append((process, mine))
                            print([mine.recv() for _, mine in jobs])
                            for process, _ in jobs:
                                process.join(30)
                            print([process.exitcode for process, _ in jobs])
                            weald.sleep(0.01)
                            print(len(ticks) > 3, ticker.dead)
                        if __name__ == "__main__":
                            main()
                    """))  # fmt: skip
                    done = support.run(file, how="plain", WEALD_AS_GEVENT="")
                    self.assertEqual(done.status, 0, done)
                    self.assertEqual(done.out.splitlines(), ["[0, 45, 90]", "[0, 0, 0]", "True False"], done)

    def test_hubs_in_threads_share_queues(self):
        """Every item arrives once, whichever thread put it and whichever takes it."""
        self.says("4000 4000 True", """
            import threading, weald
            from weald.event import AsyncResult, Event
            from weald.lock import Semaphore
            from weald.queue import Queue
            shared, bounded, results = Queue(), Queue(3), []
            gate, inside, most = Semaphore(2), [0], [0]
            def put(thread, k):
                for n in range(50):
                    shared.put((thread, k, n))
                    if n % 7 == 0:
                        weald.sleep(0)
            def take(got):
                while (item := shared.get()) is not None:
                    bounded.put(item)
            def pass_on():
                while (item := bounded.get()) is not None:
                    with gate:
                        inside[0] += 1
                        most[0] = max(most[0], inside[0])
                        weald.sleep(0)
                        inside[0] -= 1
                    results.append(item)
            def run(function, *args):
                weald.joinall([weald.spawn(function, *args) for _ in range(5)])
            def putter(thread):
                weald.joinall([weald.spawn(put, thread, k) for k in range(20)])
            takers = [threading.Thread(target=run, args=(take, results)) for _ in range(2)]
            passers = [threading.Thread(target=run, args=(pass_on,)) for _ in range(2)]
            putters = [threading.Thread(target=putter, args=(n,)) for n in range(4)]
            for one in takers + passers + putters:
                one.start()
            for one in putters:
                one.join()
            [shared.put(None) for _ in range(10)]
            for one in takers:
                one.join()
            keep = weald.spawn(weald.sleep, 50)
            [bounded.put(None) for _ in range(10)]
            for one in passers:
                one.join()
            keep.kill()
            print(len(results), len(set(results)), 1 <= most[0] <= 2)
        """)  # fmt: skip


class LookingOn(Fault):
    def test_a_stall_is_reported_with_the_greenlet_and_its_stack(self):
        err = self.says("guilty blocks", """
            import time, weald
            from weald import config, events
            config.max_blocking_time = 0.05
            seen = []
            events.subscribers.append(seen.append)
            def blocks_the_others():
                end = time.monotonic() + 1
                while time.monotonic() < end and not any(isinstance(e, events.EventLoopBlocked) for e in seen):
                    pass
            weald.get_hub().start_periodic_monitoring_thread()
            weald.sleep(0.01)
            guilty = weald.Greenlet(blocks_the_others)
            guilty.start()
            weald.spawn(weald.sleep, 1)
            guilty.join()
            weald.sleep(0.5)  # while the report is printed
            (event,) = [e for e in seen if isinstance(e, events.EventLoopBlocked)][:1]
            named = any("blocks_the_others" in line for line in event.info)
            print("guilty" if event.greenlet is guilty else event.greenlet, "blocks" if named else event.info)
        """, GEVENT_MONITOR_THREAD_ENABLE="1")  # fmt: skip
        self.assertRegex(err, r"Greenlet <Greenlet at \w+: blocks_the_others> appears to be blocked")
        self.assertIn("in blocks_the_others", err)

    WAITS = """
        import io, weald
        from weald import util
        from weald.event import Event
        from weald.lock import Semaphore
        from weald.queue import Queue
        def waits_for_water():
            Event().wait()
        def waits_for_light():
            Queue().get()
        def waits_for_room(gate=Semaphore(0)):
            gate.acquire()
        greenlets = [weald.spawn(one) for one in (waits_for_water, waits_for_light, waits_for_room)]
        joiner = weald.spawn(greenlets[0].join)
        weald.sleep(0)
    """

    def test_run_info_says_what_each_greenlet_waits_for(self):
        done = support.run(textwrap.dedent(self.WAITS) + textwrap.dedent("""
            sleeper = weald.spawn(weald.sleep, 10)
            weald.sleep(0)
            out = io.StringIO()
            util.print_run_info(file=out)
            print(out.getvalue())
        """), how="plain")  # fmt: skip
        self.assertEqual(done.status, 0, done)
        for name, waits in {
            "waits_for_water": r"Event\.wait\(\) for <Event", "waits_for_light": r"Queue\.get\(\) for <Queue",
            "waits_for_room": r"Semaphore\.acquire\(\) for <Semaphore",
            "built-in method join": r"Greenlet\.join\(\) for <Greenlet",
        }.items():  # fmt: skip
            self.assertRegex(done.out, rf"<Greenlet .*{name}.*>\n.*Parent: .*\n.*Waits in: {waits}")
        self.assertRegex(done.out, r"Waits in: sleep\n")
        self.assertIn("Event().wait()", done.out)
        # The caller's stack is shown for the caller alone.
        self.assertEqual(done.out.count("util.print_run_info(file=out)"), 2, done.out)

    def test_loop_exit_says_who_waits_for_what(self):
        done = support.run(textwrap.dedent(self.WAITS) + "\nweald.joinall(greenlets)", how="plain")
        self.assertEqual(done.status, 1, done)
        for who, waits in {
            "waits_for_water": "Event.wait", "waits_for_light": "Queue.get", "waits_for_room": "Semaphore.acq",
        }.items():  # fmt: skip
            text = re.sub(r"'\s*'", "", done.err)
            self.assertRegex(text, rf"{who}> waits in {waits}")
        self.assertRegex(done.err, r"main> waits in joinall")

    def test_context_variables_are_inherited_if_that_is_set(self):
        source = """
            import contextvars, weald
            if SET:
                weald.config.inherit_context = True
            name = contextvars.ContextVar("name", default="none")
            name.set("oak")
            def child():
                seen = name.get()
                name.set("ash")
                return seen, weald.spawn(name.get).get()
            raw = []
            weald.spawn_raw(lambda: raw.append(name.get()))
            later, made = weald.spawn_later(0.001, name.get), weald.Greenlet.spawn(name.get)
            print(*weald.spawn(child).get(), later.get(), made.get(), *raw, name.get())
        """
        self.says("none none none none none oak", "SET = 0\n" + textwrap.dedent(source))
        self.says("oak ash oak oak oak oak", "SET = 1\n" + textwrap.dedent(source))
        self.says("oak ash oak oak oak oak", "SET = 0\n" + textwrap.dedent(source), WEALD_INHERIT_CONTEXT=1)

    def test_settrace_and_setprofile_see_every_greenlet(self):
        for setter in "settrace", "setprofile":
            self.says("30 30 True", f"""
                import sys, weald
                calls, returns = {{}}, {{}}
                def told(frame, event, arg):
                    if frame.f_code is body.__code__ and event in ("call", "return"):
                        counts = calls if event == "call" else returns
                        counts[frame] = counts.get(frame, 0) + 1
                    return told
                def body():
                    for _ in range(5):
                        weald.sleep(0)
                sys.{setter}(told)
                weald.joinall([weald.spawn(body) for _ in range(30)])
                here = sys.get{setter[3:]}() is told
                sys.{setter}(None)
                print(len(calls), len(returns), here)
            """)  # fmt: skip

    def test_cprofile_counts_calls_in_greenlets(self):
        self.says("200 100", """
            import cProfile, pstats, weald
            def inner():
                weald.sleep(0)
            def outer():
                inner()
                inner()
            profile = cProfile.Profile()
            profile.enable()
            weald.joinall([weald.spawn(outer) for _ in range(100)])
            profile.disable()
            # Calls in all; those of several greenlets count as nested.
            stats = {key[2]: value[1] for key, value in pstats.Stats(profile).stats.items()}
            print(stats["inner"], stats["outer"])
        """)  # fmt: skip

    def test_faulthandler(self):
        """It shows the stack of the greenlet that runs, on request and at a crash."""
        status, _, err = run("""
            import faulthandler, resource, weald
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            faulthandler.enable()
            def crashes_here():
                weald.sleep(0)
                faulthandler.dump_traceback()
                faulthandler._sigsegv()
            weald.spawn(crashes_here).get()
        """)
        self.assertEqual(status, -11, err)
        self.assertEqual(err.count("in crashes_here"), 2, err)
        self.assertIn("Fatal Python error: Segmentation fault", err)

    def test_coverage(self):
        support.need("coverage")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "program.py").write_text(textwrap.dedent("""
                import weald
                def body(n):
                    weald.sleep(0)
                    if n > 5:
                        return 1
                    weald.sleep(0)
                    return 2
                def never():
                    return 3
                weald.joinall([weald.spawn(body, n) for n in range(10)])
            """).lstrip())  # fmt: skip
            words = [sys.executable, "-m", "coverage"]
            env = support.environment(WEALD_AS_GEVENT="")
            for more in ["run", "program.py"], ["report", "-m", "program.py"]:
                done = subprocess.run([*words, *more], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertRegex(done.stdout, r"program\.py +10 +1 +90% +9\n")


class Failures(Fault):
    SOURCE = """
        import pickle, sys, traceback, weald
        from weald.event import Event
        from weald.util import Failure
        class Own(Exception):
            def __init__(self, tree, age):
                super().__init__(tree, age)
        class Stubborn(Exception):
            def __reduce__(self):
                raise TypeError("not me")
        def inner(kind):
            weald.sleep(0)
            raise kind
        def outer(kind):
            try:
                inner(kind)
            except Exception as error:
                raise Own("oak", 300) from error
        def failed(kind):
            weald.get_hub().exception_stream = None
            one = weald.spawn(outer, kind)
            one.join()
            return one.exception
        def shown(error):
            lines = "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines()
            return [line for line in lines if set(line) - set(" ~^")]
    """

    def test_a_failure_is_shown_elsewhere_as_it_was(self):
        """In another process, with its cause and every line of both tracebacks; by traceback and by the interpreter."""
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder, "part.py")
            part.write_text(textwrap.dedent(self.SOURCE))
            Path(folder, "first.py").write_text(
                "from part import *\nerror = failed(KeyError('ash'))\n"
                "pickle.dump((Failure(error), shown(error)), open('data', 'wb'))\n"
            )
            Path(folder, "second.py").write_text(
                "from part import *\nfailure, expected = pickle.load(open('data', 'rb'))\n"
                "print(shown(failure.exception) == expected, failure.exception.args, repr(failure.exception.__cause__))\n"
                "failure.reraise()\n"
            )
            done = support.run(Path(folder, "first.py"), how="plain")
            self.assertEqual((done.status, done.err), (0, ""), done)
            done = support.run(Path(folder, "second.py"), how="plain")
            self.assertEqual((done.status, done.out.strip()), (1, "True ('oak', 300) KeyError('ash')"), done)
            self.assertRegex(done.err, r'part.py", line 18, in outer\n +raise Own\("oak", 300\) from error\n')
            self.assertRegex(done.err, r'part.py", line 13, in inner\n +raise kind\n')
            self.assertNotIn("\n\n  File", done.err)

    def test_what_can_not_be_pickled_arrives_as_text(self):
        expected = "True Unpicklable Stubborn: ash\nUnpicklable LoopExit: This operation would block forever"
        self.says(expected, textwrap.dedent(self.SOURCE) + textwrap.dedent("""
            error = pickle.loads(pickle.dumps(Failure(failed(Stubborn("ash"))))).exception
            print(type(error) is Own, type(error.__cause__).__name__, error.__cause__)
            try:
                Event().wait()
            except weald.hub.LoopExit as left:
                error = pickle.loads(pickle.dumps(Failure(left))).exception
                print(type(error).__name__, str(error).splitlines()[0])
        """))  # fmt: skip


class Memory(Fault):
    def test_a_million_greenlets_leave_nothing(self):
        """`WEALD_TEST_GREENLETS=10000000` runs ten million."""
        count = int(os.environ.get("WEALD_TEST_GREENLETS", "1000000"))
        status, out, err = run(f"""
            import gc, weald
            from weald.greenlet import greenlet
            from weald.pool import Pool
            def rss():
                weald.sleep(0.5)  # an idle hub gives the memory of stacks back that were not needed of late
                with open("/proc/self/statm") as statm:
                    return int(statm.read().split()[1]) * 4
            def work(n):
                for _ in range(n // 10000):
                    weald.joinall([weald.spawn(len, "") for _ in range(4000)])
                    weald.joinall([weald.spawn(weald.sleep, 0) for _ in range(2000)])
                    for _ in Pool(100).imap_unordered(abs, range(2000)):
                        pass
                    for _ in range(1000):
                        greenlet(len).switch("")
                    killed = [weald.spawn(weald.sleep, 10) for _ in range(1000)]
                    weald.sleep(0)
                    weald.killall(killed)
                gc.collect()
            work(100000)
            before = rss()
            after = []
            for _ in range(4):
                work({count} // 4)
                after.append(rss())
            print(before, min(after[2:]))  # what leaks is there in each; malloc's page more or less is not
        """, timeout=3600)
        self.assertEqual(status, 0, err)
        before, after = map(int, out.split())
        if count != 1000000:
            print(f"{count} greenlets: {before} KiB before, {after} KiB after", file=sys.__stderr__)
        self.assertLess(after - before, 2048)

    def test_with_the_debug_allocator(self):
        """Freed memory that is used, and memory written beyond its end, end the process then."""
        for part in "Soak.test_kill_storm", "Switching", "Interpreter.test_a_queue_between_threads":
            done = subprocess.run(
                [sys.executable, "-m", "unittest", f"test_core.{part}"], capture_output=True, text=True, timeout=120,
                env={**os.environ, "PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1",
                     "PYTHONPATH": str(Path(__file__).parent)},
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_in_a_debug_build_of_the_interpreter(self):
        """With the interpreter's own assertions, and its count of all references."""
        if hasattr(sys, "gettotalrefcount"):
            raise unittest.SkipTest("this is one")
        python = support.need_program("python3-dbg", "python3-dbg python3-venv")
        words = [python, "-c", "import sys; print(*sys.version_info[:2])"]
        version = subprocess.run(words, capture_output=True, text=True)
        if version.stdout.split() not in (["3", str(minor)] for minor in range(10, 14)):
            raise unittest.SkipTest(f"the debug build at hand is of version {version.stdout.strip()}")
        root = Path(__file__).resolve().parents[3]
        place = root / "target" / "debug-python"
        words = ["make", "-s", "python", f"PYVENV={place}", f"PYTHON={python}"]
        made = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=600)
        if made.returncode:
            raise unittest.SkipTest(f"weald is not built by {python}: {(made.stdout + made.stderr)[-500:]}")
        done = subprocess.run(
            [str(place / "bin" / "python"), "-X", "dev", "-m", "unittest", "-b", "test_core", "test_faults.Signals"],
            capture_output=True, text=True, timeout=600, cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr[-5000:])


if __name__ == "__main__":
    unittest.main()
