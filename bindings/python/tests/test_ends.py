"""How programs end: what they return, what they say, and what a signal does."""
import signal
import time
import unittest

import support


class Ends(support.TestCase):
    def ends(self, status, out, source, *args, err=None, how="run"):
        done = support.run(source, *args, how=how)
        self.assertEqual((done.status, done.out.split()), (status, out.split()), done)
        if err is not None:
            self.assertIn(err, done.err)
        return done

    def test_who_exits_ends_those_who_join_him(self):
        for wait in "g.join()", "g.get()", "gevent.joinall([g])", "gevent.wait([g])", "pool.join()", "group.join()":
            with self.subTest(wait):
                self.ends(
                    3, "finally atexit",
                    f"""
                    import atexit, sys
                    import gevent
                    from gevent.pool import Group, Pool
                    atexit.register(lambda: print("atexit"))
                    pool, group = Pool(2), Group()
                    g = pool.spawn(sys.exit, 3)
                    group.add(g)
                    try:
                        {wait}
                    finally:
                        print("finally")
                    print("no")
                    """,
                )  # fmt: skip

    def test_who_exits_comes_before_what_he_has_set(self):
        for set, wait in ("event.set()", "event.wait()"), ("result.set(1)", "result.get()"):
            with self.subTest(set):
                self.ends(
                    4, "",
                    f"""
                    import sys
                    import gevent
                    from gevent.event import AsyncResult, Event
                    event, result = Event(), AsyncResult()
                    def leave():
                        {set}
                        sys.exit(4)
                    gevent.spawn(leave)
                    {wait}
                    print("no")
                    """,
                )  # fmt: skip

    def test_what_is_thrown_by_hand_comes_before_what_was_set(self):
        self.ends(
            0, "thrown set",
            """
            import gevent
            from gevent.event import Event
            event = Event()
            def wait():
                try:
                    event.wait()
                    print("no")
                except KeyError:
                    print("thrown")
                event.wait()
                print("set")
            g = gevent.spawn(wait)
            gevent.sleep(0)
            gevent.spawn(lambda: (event.set(), g.throw(KeyError)))
            g.join()
            """,
        )  # fmt: skip

    def test_errors_that_a_program_makes_fatal(self):
        self.ends(
            1, "",
            """
            import gevent
            class Fatal(Exception):
                pass
            gevent.hub.Hub.SYSTEM_ERROR += (Fatal,)
            def fail():
                raise Fatal("all is lost")
            gevent.spawn(fail).join()
            print("no")
            """,
            err="Fatal: all is lost",
        )  # fmt: skip

    def test_a_caught_exit_loses_nothing(self):
        self.ends(
            0, "caught KeyboardInterrupt() joined",
            """
            import gevent
            def interrupt():
                raise KeyboardInterrupt
            g = gevent.spawn(interrupt)
            try:
                g.join()
            except KeyboardInterrupt:
                print("caught")
            other = gevent.spawn(g.join)
            g.join()
            other.join()
            print(repr(g.exception), "joined")
            """,
        )  # fmt: skip


class Signals(support.TestCase):
    def interrupted(self, source, how="run", sign=signal.SIGINT):
        """What a program does when the signal comes after it has said that it is ready."""
        server = support.Server(source, port=0, how=how)
        self.addCleanup(server.stop)
        end = time.monotonic() + support.LIMIT
        while "ready" not in server.output():
            self.assertLess(time.monotonic(), end, server.output())
            time.sleep(0.02)
        server.process.send_signal(sign)
        server.process.wait(support.LIMIT)
        return server.process.returncode, server.output()

    def test_ctrl_c_while_a_greenlet_that_main_joins_is_busy(self):
        status, output = self.interrupted(
            """
            import time
            import gevent
            def work():
                print("ready")
                while True:
                    time.sleep(0.01)
            gevent.spawn(work).join()
            """
        )
        self.assertEqual(status, -signal.SIGINT, output)
        self.assertIn("KeyboardInterrupt", output)


if __name__ == "__main__":
    unittest.main()
