"""The core under load, and at its edges: collection, finalizers, exceptions, kills, recursion, threads, forks, exits.

    python -m unittest tests.test_core        from bindings/python, with weald installed or built in place
"""
import ctypes
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest
import weakref

import weald
from weald import event, hub, lock, pool, queue
from weald.greenlet import GreenletExit, getcurrent, greenlet


def quiet(function):
    """Exceptions that nobody catches are part of the test."""

    def wrapper(self):
        stream, weald.get_hub().exception_stream = weald.get_hub().exception_stream, None
        try:
            function(self)
        finally:
            weald.get_hub().exception_stream = stream

    wrapper.__name__ = function.__name__
    return wrapper


def run(program, *, timeout=60, env=None):
    """A program in an interpreter of its own: its exit status, and what it printed."""
    where = os.path.dirname(os.path.dirname(weald.__file__))
    env = dict(os.environ, PYTHONPATH=where, **(env or {}))
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True,
                          timeout=timeout, env=env)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class Switching(unittest.TestCase):
    def test_exceptions_over_switches(self):
        def body(depth):
            try:
                if depth == 0:
                    raise KeyError("deep")
                weald.sleep(0)
                body(depth - 1)
            except KeyError:
                weald.sleep(0)
                self.assertIs(sys.exc_info()[0], KeyError)
                raise

        greenlets = [weald.spawn(self._caught, body, i % 7) for i in range(200)]
        weald.joinall(greenlets, raise_error=True)
        self.assertEqual(sys.exc_info(), (None, None, None))

    def _caught(self, body, depth):
        with self.assertRaises(KeyError):
            body(depth)

    def test_the_exception_that_is_handled_is_each_greenlets_own(self):
        seen = []

        def body(kind):
            try:
                raise kind
            except kind:
                for _ in range(20):
                    weald.sleep(0)
                    seen.append(sys.exc_info()[0] is kind)

        weald.joinall([weald.spawn(body, kind) for kind in (KeyError, ValueError, IndexError)])
        self.assertTrue(all(seen) and len(seen) == 60)

    def test_generators_over_switches(self):
        def numbers(n):
            for i in range(n):
                weald.sleep(0)
                yield i

        def body(n):
            return sum(numbers(n))

        greenlets = [weald.spawn(body, n) for n in range(50)]
        weald.joinall(greenlets)
        self.assertEqual([g.value for g in greenlets], [sum(range(n)) for n in range(50)])

    def test_a_finalizer_may_switch(self):
        ran = []

        class Switches:
            def __del__(self):
                weald.sleep(0)
                ran.append(getcurrent())

        def body():
            for _ in range(10):
                s = Switches()
                s.itself = s
                del s
                Switches()
                weald.sleep(0)

        weald.joinall([weald.spawn(body) for _ in range(20)])
        gc.collect()
        self.assertEqual(len(ran), 400)

    def test_a_value_that_switches_when_it_goes(self):
        class Switches:
            def __del__(self):
                weald.sleep(0)

        for _ in range(50):
            weald.joinall([weald.spawn(Switches) for _ in range(10)])

    def test_raw_greenlets_are_killed_when_nobody_refers_to_them(self):
        ended = []

        def body():
            try:
                getcurrent().parent.switch()
            except GreenletExit:
                ended.append(1)
                raise

        for _ in range(500):
            g = greenlet(body)
            g.switch()
        del g
        gc.collect()
        self.assertEqual(len(ended), 500)

    def test_tracing(self):
        events = []

        def tracer(frame, event, arg):
            events.append(event)
            return tracer

        def body():
            weald.sleep(0)
            return 1

        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            weald.spawn(body).join()
        finally:
            sys.settrace(before)
        self.assertIn("line", events)

    def test_profile(self):
        import cProfile

        profile = cProfile.Profile()
        profile.enable()
        weald.joinall([weald.spawn(weald.sleep, 0.001) for _ in range(20)])
        profile.disable()

    def test_frames_of_those_who_wait(self):
        def outer():
            inner()

        def inner():
            weald.sleep(10)

        g = weald.spawn(outer)
        weald.sleep(0)
        names = []
        frame = g.gr_frame
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        g.kill()
        self.assertEqual(names[:2], ["inner", "outer"])


class Soak(unittest.TestCase):
    @quiet
    def test_kill_storm(self):
        chance = random.Random(1)
        q = queue.Queue()
        e = event.Event()
        s = lock.Semaphore(3)
        counts = {"cleaned": 0}

        def body(kind):
            try:
                while True:
                    if kind == 0:
                        weald.sleep(0)
                    elif kind == 1:
                        weald.sleep(chance.random() / 1000)
                    elif kind == 2:
                        q.put(1)
                        weald.sleep(0)
                        q.get()
                    elif kind == 3:
                        with s:
                            weald.sleep(0)
                    elif kind == 4:
                        e.wait(0.0005)
                    else:
                        with weald.Timeout(0.0003, False):
                            weald.sleep(0.001)
            finally:
                counts["cleaned"] += 1

        made = 0
        greenlets = []
        until = time.monotonic() + 2
        while time.monotonic() < until:
            for _ in range(50):
                greenlets.append(weald.spawn(body, made % 6))
                made += 1
            weald.sleep(0.0005)
            chance.shuffle(greenlets)
            for g in greenlets[:45]:
                how = chance.randrange(3)
                if how == 0:
                    g.kill(block=False)
                elif how == 1:
                    g.kill()
                else:
                    g.kill(ValueError, block=False)
            greenlets = [g for g in greenlets if not g.ready()]
        weald.killall(greenlets)
        weald.sleep(0.01)
        self.assertEqual(s.counter, 3)

    def test_collection_while_greenlets_run(self):
        class Node:
            pass

        def body():
            for _ in range(30):
                a, b = Node(), Node()
                a.other, b.other, a.me = b, a, getcurrent()
                weald.sleep(0)

        threshold = gc.get_threshold()
        gc.set_threshold(10, 2, 2)
        try:
            weald.joinall([weald.spawn(body) for _ in range(100)])
        finally:
            gc.set_threshold(*threshold)
        gc.collect()

    def test_a_million_would_not_leak(self):
        def rss():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * 4096

        def work():
            for _ in range(20):
                weald.joinall([weald.spawn(len, "") for _ in range(1000)])

        work()
        gc.collect()
        before = rss()
        work()
        work()
        gc.collect()
        self.assertLess(rss() - before, 4 << 20)

    def test_a_value_counts_before_an_exception(self):
        error = KeyError("late")
        value, problem = (lambda r: r.set(5)), (lambda r: r.set_exception(error))
        for set_first, then in (value, problem), (problem, value):
            r = event.AsyncResult()
            set_first(r)
            then(r)
            self.assertEqual((r.get(), r.value, r.exception, r.successful(), r.ready()), (5, 5, error, True, True))

    def test_references(self):
        if hasattr(sys, "gettotalrefcount"):
            count = sys.gettotalrefcount
        else:
            count = sys.getallocatedblocks

        def work():
            q = queue.Queue(2)
            e = event.Event()
            r = event.AsyncResult()
            done = [weald.spawn(q.put, i) for i in range(5)] + [weald.spawn(q.get) for _ in range(5)]
            done += [weald.spawn(e.wait), weald.spawn(r.get)]
            e.set()
            r.set(5)
            with weald.Timeout(0.0001, False):
                weald.sleep(0.001)
            sleeper = weald.spawn(weald.sleep, 10)
            weald.sleep(0)
            sleeper.kill()
            weald.joinall(done)
            list(pool.Pool(3).imap(len, ["a"] * 10))
            g = greenlet(lambda: getcurrent().parent.switch(1))
            g.switch()
            g.switch()
            t = weald.get_hub().loop.timer(0.0001)
            weald.get_hub().wait(t)
            t.close()

        figures = []
        for _ in range(8):
            for _ in range(20):
                work()
            gc.collect()
            figures.append(count())
        growth = [b - a for a, b in zip(figures[3:], figures[4:])]
        self.assertLess(min(growth), 20, figures)


    def test_what_is_killed_keeps_nothing(self):
        """A suspended greenlet in a frame that an exception refers to can not be collected."""

        def raw():
            getcurrent().parent.switch()

        def body():
            g = greenlet(raw)
            g.switch()
            weald.sleep(100)

        def living():
            return sum(1 for o in gc.get_objects() if type(o) is weald.Greenlet)

        def work():
            for _ in range(50):
                g = weald.spawn(body)
                weald.sleep(0)
                g.kill()

        work()
        gc.collect()
        before = living()
        work()
        gc.collect()
        self.assertLess(living() - before, 5)


class Spawning(unittest.TestCase):
    def test_arguments_arrive_as_they_were_given(self):
        def given(*args, **kwargs):
            return args, kwargs

        for args in (), (1,), ((),), ((1, 2),), (1, 2), ([], [1]), (None,):
            for kwargs in {}, {"key": 1}:
                for make in weald.Greenlet, weald.spawn:
                    g = make(given, *args, **kwargs)
                    self.assertEqual((g.args, g.kwargs), (args, kwargs))
                    g.start()
                    self.assertEqual(g.get(), (args, kwargs))
                    self.assertEqual(g.args, ())
                    unseen = make(given, *args, **kwargs)
                    unseen.start()
                    self.assertEqual(unseen.get(), (args, kwargs))
                    killed = make(given, *args, **kwargs)
                    killed.kill()
                    self.assertFalse(killed.args)

    def test_arguments_may_be_replaced_before_the_start(self):
        g = weald.Greenlet(lambda *args: args, 1)
        g.args = (2, 3)
        with self.assertRaises(TypeError):
            g.args = [4]
        g.start()
        self.assertEqual(g.get(), (2, 3))

    def test_one_that_only_sleeps_is_like_others(self):
        began = time.monotonic()
        g = weald.spawn(weald.sleep, 0.05)
        self.assertEqual((bool(g), g.started, g.dead, g.ready(), g._waits), (True, True, False, False, ("sleep", None)))
        ended = []
        g.link(ended.append)
        self.assertIsNone(g.get())
        weald.sleep(0)
        self.assertEqual(ended, [g])
        self.assertGreaterEqual(time.monotonic() - began, 0.05)
        self.assertIsNone(g.join())

    @quiet
    def test_one_that_only_sleeps_is_killed(self):
        for rest in None, 0:
            for how in (), (KeyError("why"),):
                g = weald.spawn(weald.sleep, 100)
                if rest is not None:
                    weald.sleep(rest)
                g.kill(*how)
                self.assertTrue(g.dead)
                self.assertIs(type(g.exception or g.value), type(how[0]) if how else GreenletExit)
        g = weald.spawn(weald.sleep, 100)
        with weald.Timeout(0.01, False):
            g.get()
        self.assertFalse(g.ready())
        weald.killall([g])
        self.assertTrue(g.dead)

    @quiet
    def test_one_that_only_sleeps_fails_where_it_would(self):
        for wrong in "x", float("nan"), None:
            g = weald.spawn(weald.sleep, wrong)
            g.join()
            self.assertIsInstance(g.exception, (TypeError, ValueError))

    def test_one_that_only_sleeps_may_get_something_else_to_do(self):
        g = weald.spawn(weald.sleep, 100)
        g.args = (0,)
        self.assertIsNone(g.get(timeout=10))
        g = weald.spawn(weald.sleep, 100)
        g._run = str
        self.assertEqual(g.get(timeout=10), "100")

    def test_one_that_only_sleeps_and_had_no_memory_to_begin_may_do_something_else(self):
        status, out, err = run(
            """
            import os, resource, weald

            many = [weald.Greenlet(weald.sleep, 100) for _ in range(200000)]
            weald.spawn(weald.sleep, 0.001).join()
            with open("/proc/self/statm") as sizes:
                used = int(sizes.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
            for g in many:
                try:
                    g.start()
                except MemoryError:
                    break
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert g is not many[-1]
            g._run = str
            g.start()
            print(g.get(), flush=True)
            os._exit(0)
            """
        )
        self.assertEqual((status, out, err), (0, "100\n", ""))

    def test_a_thread_that_ends_kills_those_that_only_sleep(self):
        def work():
            kept.extend(weald.spawn(weald.sleep, 100) for _ in range(3))
            kept.append(weald.spawn_later(100, len, ()))
            weald.sleep(0)

        kept = []
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertEqual([type(g.value) for g in kept], [GreenletExit] * 4)

    def test_an_argument_that_refers_to_its_greenlet_is_collected(self):
        held = []
        held.append(weald.Greenlet(len, held))
        gone = weakref.ref(held[0])
        del held
        gc.collect()
        self.assertIsNone(gone())

    def test_each_knows_where_it_was_spawned(self):
        here = [weald.spawn(int) for _ in range(3)]
        there = weald.spawn(int)
        lines = [g.spawning_stack.f_lineno for g in (*here, there)]
        self.assertEqual(lines[0], lines[1])
        self.assertEqual(lines[1], lines[2])
        self.assertEqual(lines[3], lines[0] + 1)
        weald.joinall([*here, there])


class Timeouts(unittest.TestCase):
    def test_one_that_nobody_refers_to_fires(self):
        def body():
            weald.Timeout.start_new(0.01)
            gc.collect()
            with self.assertRaises(weald.Timeout):
                weald.sleep(5)
            return True

        self.assertTrue(weald.spawn(body).get())

    def test_none_is_kept_for_longer_than_it_can_fire(self):
        class Mine(weald.Timeout):
            pass

        references = []

        def body(kind):
            limit = Mine.start_new(0.01)
            references.append(weakref.ref(limit))
            if kind == "cancelled":
                limit.cancel()
            elif kind == "raised":
                with self.assertRaises(Mine):
                    weald.sleep(5)
            elif kind == "raised at the end":
                # It is over when it waits again.
                time.sleep(0.02)
            elif kind == "in a block":
                with limit:
                    weald.sleep(0)

        kinds = ["cancelled", "raised", "raised at the end", "in a block", "never"]
        weald.joinall([weald.spawn(body, kind) for kind in kinds])
        weald.sleep(0.05)
        gc.collect()
        self.assertEqual([one() for one in references], [None] * len(kinds))


class Recursion(unittest.TestCase):
    def test_recursion_is_an_error_and_no_crash(self):
        def forever():
            forever()

        def by_c(n=0):
            return sorted([1], key=lambda _: by_c(n + 1))

        for body in (forever, by_c):
            g = weald.spawn(self._recurses, body)
            g.join()
            self.assertTrue(g.value)

    @staticmethod
    def _recurses(body):
        try:
            body()
        except RecursionError:
            return True

    def test_each_greenlet_has_the_whole_depth(self):
        def deep(n):
            if n == 0:
                weald.sleep(0)
                return 1
            return deep(n - 1)

        limit = sys.getrecursionlimit()
        greenlets = [weald.spawn(deep, limit - 100) for _ in range(20)]
        weald.joinall(greenlets)
        self.assertEqual([g.value for g in greenlets], [1] * 20)


class Interpreter(unittest.TestCase):
    def test_the_lock_is_released_while_the_loop_sleeps(self):
        ran = []

        def other():
            for _ in range(10):
                time.sleep(0.001)
                ran.append(1)

        t = threading.Thread(target=other)
        t.start()
        weald.sleep(0.1)
        t.join()
        self.assertEqual(len(ran), 10)

    def test_a_greenlet_may_release_the_lock(self):
        greenlets = [weald.spawn(time.sleep, 0.001) for _ in range(20)]
        weald.joinall(greenlets)

    def test_callbacks_of_ctypes_may_switch(self):
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

        def called(n):
            weald.sleep(0)
            return n + 1

        callback = kind(called)
        greenlets = [weald.spawn(callback, i) for i in range(50)]
        weald.joinall(greenlets)
        self.assertEqual([g.value for g in greenlets], list(range(1, 51)))

    def test_threads_have_hubs_of_their_own(self):
        failures = []

        def body():
            try:
                q = queue.Queue()
                out = []

                def producer():
                    for i in range(100):
                        q.put(i)
                        weald.sleep(0)
                    q.put(None)

                weald.spawn(producer)
                while (item := q.get()) is not None:
                    out.append(item)
                assert out == list(range(100))
            except BaseException as e:
                failures.append(e)

        for _ in range(5):
            threads = [threading.Thread(target=body) for _ in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(10)
        self.assertEqual(failures, [])

    def kills_from_another_thread(self, make):
        """Kills what `make` gives before it has begun, kept and dropped, from a thread that is none of ours."""
        status, out, err = run(
            f"""
            import gc, threading, time, weakref
            import weald
            from weald.greenlet import error

            MAKE = {make!r}
            """
            """
            def throw(g):
                try:
                    g.throw()
                except error as e:
                    assert "different thread" in str(e), e
                else:
                    raise AssertionError("thrown at one of another thread")

            def kill(g):
                g.kill()
                assert g.dead and isinstance(g.value, weald.GreenletExit)

            def kill_all(g):
                weald.killall([g])
                assert g.dead and isinstance(g.value, weald.GreenletExit)

            WAYS = [
                kill, kill_all, throw, lambda g: g.kill(block=False), lambda g: g.kill((KeyError, KeyError(1), None)),
                lambda g: weald.killall([g], KeyError, block=False),
            ]

            def one(way, keep):
                def work(box):
                    try:
                        way(box.pop())
                    except BaseException as e:
                        failed.append(e)

                ran, failed = [], []
                g = eval(MAKE)
                gone = weakref.ref(g)
                thread = threading.Thread(target=work, args=([g],))
                thread.start()
                time.sleep(0.03)  # without the loop: it has not begun
                kept = [g] if keep else []
                del g
                weald.sleep(0.25)
                thread.join()
                assert not failed, failed
                lives = way is throw
                assert ran == [1] * (lives and "ran" in MAKE), (way, ran)
                for g in kept:
                    assert g.dead and (g.value is None) == (lives or g.exception is not None), (way, g)
                    del g
                kept.clear()
                gc.collect()
                assert gone() is None, (way, keep)

            weald.get_hub().handle_error = lambda *args: None
            for way in WAYS:
                for keep in True, False:
                    one(way, keep)
            print("done")
            """,
            env={"PYTHONMALLOC": "debug"},
        )
        self.assertEqual((status, out, err), (0, "done\n", ""))

    def test_a_greenlet_is_started_in_its_own_thread(self):
        def work():
            for start in (g.start, lambda: g.start_later(0)):
                try:
                    start()
                except weald.exceptions.InvalidThreadUseError as e:
                    refused.append(str(e))

        refused, g = [], weald.Greenlet(len, ())
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        self.assertEqual(refused, ["a greenlet is started in the thread that made it"] * 2)
        g.start_later(0)
        self.assertEqual(g.get(timeout=10), 0)

    def test_a_kill_from_another_thread_of_one_that_only_sleeps(self):
        self.kills_from_another_thread("weald.spawn(weald.sleep, 0.15)")

    def test_a_kill_from_another_thread_of_one_that_is_to_begin_later(self):
        self.kills_from_another_thread("weald.spawn_later(0.15, ran.append, 1)")

    def test_a_kill_from_another_thread_of_one_that_is_about_to_begin(self):
        self.kills_from_another_thread("weald.spawn(ran.append, 1)")

    def test_killall_of_greenlets_of_two_threads(self):
        def work():
            weald.killall([weald.spawn(weald.sleep, 100), *mine], timeout=10)
            ended.extend(g.dead for g in mine)

        ended, mine = [], [weald.spawn(weald.sleep, 100), weald.spawn(queue.Queue().get)]
        weald.sleep(0)
        thread = threading.Thread(target=work)
        thread.start()
        weald.joinall(mine, timeout=10)
        thread.join(10)
        self.assertEqual(ended, [True, True])
        self.assertEqual([type(g.value) for g in mine], [GreenletExit] * 2)

    def test_a_queue_between_threads(self):
        there, back = queue.Queue(), queue.Queue()

        def other():
            while (item := there.get()) is not None:
                back.put(item * 2)

        there.put(0)  # it is known to two threads from now on
        t = threading.Thread(target=other)
        t.start()
        keep = weald.spawn(weald.sleep, 30)
        got = [back.get(timeout=10)]
        for i in range(1, 300):
            there.put(i)
            got.append(back.get(timeout=10))
        there.put(None)
        t.join()
        keep.kill()
        self.assertEqual(got, [2 * i for i in range(300)])

    def test_keyboard_interrupt_reaches_main_at_once(self):
        status, out, err = run("""
            import os, signal, threading, time, weald
            weald.spawn(weald.sleep, 100)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            begin = time.monotonic()
            try:
                weald.sleep(50)
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - begin < 5)
        """)
        self.assertEqual((status, out.strip()), (0, "interrupted True"), err)

    def test_a_handler_of_python_runs_while_all_wait(self):
        status, out, err = run("""
            import os, signal, threading, weald
            from weald.event import Event
            e = Event()
            signal.signal(signal.SIGUSR1, lambda *a: e.set())
            keep = weald.spawn(weald.sleep, 20)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            print(e.wait(10))
        """)
        self.assertEqual((status, out.strip()), (0, "True"), err)

    def test_exit_with_greenlets_alive(self):
        status, out, err = run("""
            import threading, time, weald
            from weald.greenlet import greenlet, getcurrent
            def body():
                while True:
                    weald.sleep(0.001)
            for i in range(50):
                weald.spawn(body)
            g = greenlet(lambda: getcurrent().parent.switch())
            g.switch()
            def thread():
                for i in range(10):
                    weald.spawn(body)
                weald.sleep(100)
            for i in range(3):
                threading.Thread(target=thread, daemon=True).start()
            weald.sleep(0.05)
            print("end")
        """)
        self.assertEqual((status, out.strip(), err), (0, "end", ""))

    def test_exit_in_a_greenlet(self):
        for code, wanted in (("raise SystemExit(3)", 3), ("os._exit(4)", 4)):
            status, _, err = run(f"""
                import os, weald
                def body():
                    {code}
                weald.spawn(body)
                weald.sleep(1)
            """)
            self.assertEqual(status, wanted, err)

    def test_fork(self):
        status, out, err = run("""
            import os, weald
            def body():
                weald.sleep(0.05)
                return 1
            g = weald.spawn(body)
            weald.sleep(0)
            pid = os.fork()
            if pid == 0:
                weald.sleep(0.01)
                h = weald.spawn(body)
                h.join()
                os._exit(7 if h.value == 1 else 1)
            g.join()
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), g.value)
        """)
        self.assertEqual((status, out.strip()), (0, "7 1"), err)

    def test_fork_in_a_greenlet(self):
        status, out, err = run("""
            import os, sys, weald
            def body():
                pid = os.fork()
                if pid == 0:
                    weald.sleep(0.01)
                    weald.spawn(weald.sleep, 0.01).join()
                    os._exit(7)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(weald.spawn(body).get())
        """)
        self.assertEqual((status, out.strip()), (0, "7"), err)

    def test_loop_exit_says_who_waits(self):
        status, out, err = run("""
            import weald
            from weald.event import Event
            try:
                Event().wait()
            except weald.hub.LoopExit as e:
                print("forever" in e.args[0])
        """)
        self.assertEqual((status, out.strip()), (0, "True"), err)

    def test_debug_allocator(self):
        status, out, err = run(
            """
            import gc, weald
            from weald import queue
            def body(q):
                for i in range(50):
                    q.put(i); q.get(); weald.sleep(0)
            q = queue.Queue()
            for _ in range(3):
                gs = [weald.spawn(body, q) for _ in range(50)]
                weald.sleep(0)
                weald.killall(gs[:10])
                weald.joinall(gs)
                gc.collect()
            print("ok")
            """,
            env={"PYTHONMALLOC": "debug", "PYTHONDEVMODE": "1"},
        )
        self.assertEqual((status, out.strip()), (0, "ok"), err)


class WithC(unittest.TestCase):
    """The library called as C would, beside Python's greenlets, in the same hub."""

    def setUp(self):
        where = os.path.join(os.path.dirname(weald.__file__), "libweald.so.0")
        self.lib = ctypes.CDLL(where)  # releases the lock around each call
        self.lib.weald_queue_new.restype = ctypes.c_int64
        self.lib.weald_queue_new.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p]
        self.lib.weald_queue_get.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
        self.lib.weald_queue_put.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]
        self.lib.weald_close.argtypes = [ctypes.c_int64]
        self.lib.weald_go.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self.queue = self.lib.weald_queue_new(0, ctypes.c_size_t(-1).value, None)
        self.assertGreater(self.queue, 0)

    def tearDown(self):
        self.lib.weald_close(self.queue)

    def get(self):
        item = ctypes.c_void_p()
        code = self.lib.weald_queue_get(self.queue, ctypes.byref(item), -1)
        return item.value if code == 0 else code

    def test_greenlets_that_wait_with_the_lock_released(self):
        getters = [weald.spawn(self.get) for _ in range(20)]
        weald.sleep(0)

        def putter(i):
            weald.sleep(0.001)
            self.lib.weald_queue_put(self.queue, i, -1)

        putters = [weald.spawn(putter, i) for i in range(1, 21)]
        weald.joinall(getters + putters)
        self.assertEqual(sorted(g.value for g in getters), list(range(1, 21)))

    def test_a_greenlet_of_c_and_one_of_python_meet_at_a_queue(self):
        seen = []

        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def of_c(arg):
            try:
                weald.sleep(0)
            except Exception as e:
                seen.append(type(e).__name__)
            self.lib.weald_queue_put(self.queue, 7, 0)
            return None

        getter = weald.spawn(self.get)
        weald.sleep(0)
        self.assertEqual(self.lib.weald_go(ctypes.cast(of_c, ctypes.c_void_p), None), 0)
        self.assertEqual(getter.get(timeout=5), 7)
        self.assertEqual(seen, ["error"])


class Details(unittest.TestCase):
    def test_weak_references(self):
        g = weald.spawn(len, "")
        ref = weakref.ref(g)
        g.join()
        del g
        weald.sleep(0)
        self.assertIsNone(ref())

    @quiet
    def test_the_hub_is_told_of_errors(self):
        told = []
        h = weald.get_hub()
        h.handle_error = lambda *args: told.append(args)
        try:
            weald.spawn(lambda: 1 / 0).join()
            h.loop.run_callback(lambda: 1 / 0)
            weald.sleep(0.001)
        finally:
            del h.handle_error
        self.assertEqual([t[1] for t in told], [ZeroDivisionError] * 2)

    def test_callbacks_must_not_wait(self):
        seen = []

        def callback():
            try:
                weald.sleep(0.1)
            except hub.BlockingSwitchOutError:
                seen.append(1)

        weald.get_hub().loop.run_callback(callback)
        weald.sleep(0.001)
        self.assertEqual(seen, [1])


class GroupTest(unittest.TestCase):
    def test_made_of_living_greenlets(self):
        """Such a group is not empty: it can be waited for, and killed without turning in a circle."""
        g = weald.spawn(weald.sleep, 0.02)
        pool.Group(one for one in [g]).join()
        self.assertTrue(g.dead)
        group = pool.Group([weald.spawn(weald.sleep, 10), weald.spawn(lambda: 1 / 0)])
        with weald.Timeout(5):
            group.kill()
        self.assertEqual(len(group), 0)


class ImapTest(unittest.TestCase):
    """How the iterators of a pool come to their end."""

    def test_the_end_stays_the_end(self):
        for results in pool.Pool(2).imap(abs, [-1, 2]), pool.Pool(2).imap_unordered(abs, [-1, 2]):
            self.assertEqual(sorted(results), [1, 2])
            self.assertTrue(results.finished)
            self.assertRaises(StopIteration, next, results)
            self.assertRaises(StopIteration, results.next)

    def test_in_order_whoever_is_first(self):
        def late(seconds):
            weald.sleep(seconds)
            return seconds

        waits = [0.02, 0, 0.01]
        self.assertEqual(list(pool.Group().imap(late, waits, maxsize=3)), waits)
        self.assertEqual(list(pool.Group().imap_unordered(late, waits)), sorted(waits))

    def test_failures_come_where_their_result_would(self):
        results = pool.Group().imap(lambda n: 1 // n, [1, 0, -1])
        weald.get_hub().exception_stream = None
        try:
            self.assertEqual(next(results), 1)
            self.assertRaises(ZeroDivisionError, next, results)
            self.assertEqual(next(results), -1)
            self.assertRaises(StopIteration, next, results)
        finally:
            del weald.get_hub().exception_stream

    def test_an_iterable_that_fails(self):
        def items():
            yield 1
            raise LookupError("no more")

        weald.get_hub().exception_stream = None
        try:
            for imap in pool.Group().imap, pool.Group().imap_unordered:
                self.assertRaises(LookupError, list, imap(abs, items()))
        finally:
            del weald.get_hub().exception_stream


if __name__ == "__main__":
    unittest.main()
