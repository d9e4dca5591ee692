"""Patching the standard library: early, late, in part, twice, in a thread; and that nothing in it breaks."""
import unittest

import support

PATCH = "from gevent import monkey; monkey.patch_all()\n"


class Patching(support.TestCase):
    def test_everything_is_replaced(self):
        self.prints(
            "[]",
            PATCH
            + """
import os, queue, select, selectors, signal, socket, ssl, subprocess, threading, time, _thread
import gevent.event, gevent.local, gevent.queue, gevent.socket, gevent.ssl, gevent.subprocess, gevent.threading
wanted = {
    "socket.socket": socket.socket is gevent.socket.socket,
    "socket.create_connection": socket.create_connection is gevent.socket.create_connection,
    "ssl.SSLContext": ssl.SSLContext is gevent.ssl.SSLContext,
    "select.select": select.select is gevent.select.select,
    "select.epoll": not hasattr(select, "epoll"),
    "selectors.DefaultSelector": selectors.DefaultSelector is gevent.selectors.DefaultSelector,
    "threading.Thread": threading.Thread is gevent.threading.Thread,
    "threading.local": threading.local is gevent.local.local,
    "threading.Event": threading.Event is gevent.event.Event,
    "threading.Lock": threading.Lock is gevent.thread.LockType,
    "_thread.start_new_thread": _thread.start_new_thread is gevent.thread.start_new_thread,
    "time.sleep": time.sleep is gevent.sleep,
    "os.fork": os.fork is gevent.os.fork,
    "os.waitpid": os.waitpid is gevent.os.waitpid,
    "signal.signal": signal.signal is gevent.signal.signal,
    "subprocess.Popen": subprocess.Popen is gevent.subprocess.Popen,
    "queue.SimpleQueue": queue.SimpleQueue is gevent.queue.SimpleQueue,
    "queue.Queue": queue.Queue is gevent.queue.Queue,
}
print([name for name, ok in wanted.items() if not ok])
""",
        )

    def test_originals_can_be_had(self):
        self.prints(
            """
            True True True False
            builtin_function_or_method
            [True, True]
            """,
            PATCH
            + """
import _socket, socket
print(monkey.is_module_patched("socket"), monkey.is_object_patched("socket", "socket"),
      monkey.is_module_patched("time"), monkey.is_module_patched("json"))
print(type(monkey.get_original("time", "sleep")).__name__)
real, create = monkey.get_original("socket", ["socket", "create_connection"])
print([issubclass(real, _socket.socket), create is not socket.create_connection])
""",
        )

    def test_in_part(self):
        self.prints(
            """
            True False
            True True
            """,
            """
            from gevent import monkey
            monkey.patch_socket()
            import socket, time
            import gevent
            print(monkey.is_module_patched("socket"), time.sleep is gevent.sleep)
            monkey.patch_time()
            print(monkey.is_module_patched("socket"), time.sleep is gevent.sleep)
            """,
        )

    def test_without_some(self):
        self.prints(
            "False True True",
            """
            from gevent import monkey
            monkey.patch_all(thread=False, signal=False)
            print(*(monkey.is_module_patched(name) for name in ("threading", "socket", "subprocess")))
            """,
        )

    def test_twice_is_a_warning_only_if_it_differs(self):
        self.prints(
            """
            0
            1 more than once
            """,
            PATCH
            + """
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    monkey.patch_all()
    print(len(seen))
    monkey.patch_all(socket=False)
    print(len(seen), "more than once" if "more than once" in str(seen[0].message) else seen[0].message)
""",
        )

    def test_late_ssl_names_who_keeps_the_old_one(self):
        done = support.run("from ssl import SSLContext\n" + PATCH)
        self.assertEqual(done.status, 0, done)
        self.assertIn("MonkeyPatchWarning", done.err)
        self.assertIn("__main__", done.err)

    def test_early_is_silent(self):
        done = support.run(PATCH + "import ssl, http.client, asyncio")
        self.assertEqual((done.status, done.err), (0, ""), done)

    def test_late_without_direct_references_is_silent(self):
        done = support.run("import http.client, urllib.request\n" + PATCH)
        self.assertEqual(done.status, 0, done)

    def test_a_context_made_late_does_not_recurse(self):
        self.prints(
            "ok",
            """
            import ssl
            before = ssl.create_default_context()
            import warnings; warnings.simplefilter("ignore")
            from gevent import monkey; monkey.patch_all()
            for context in before, ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                context.options |= ssl.OP_NO_COMPRESSION
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.maximum_version = ssl.TLSVersion.TLSv1_3
                context.verify_flags = context.verify_flags
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).sni_callback = lambda *args: None
            print("ok")
            """,
        )

    def test_subscribers_can_refuse(self):
        self.prints(
            "False True",
            """
            from gevent import events, monkey

            def refuse(event):
                if isinstance(event, events.GeventWillPatchModuleEvent) and event.module_name == "time":
                    raise events.DoNotPatch

            events.subscribers.append(refuse)
            monkey.patch_all()
            print(monkey.is_module_patched("time"), monkey.is_module_patched("socket"))
            """,
        )

    def test_what_is_not_imported_is_patched_when_it_is(self):
        self.prints(
            """
            []
            True True
            SSLContext _ssl
            True
            True True
            True True True
            []
            """,
            """
            import sys
            from weald import monkey

            finders = len(sys.meta_path)
            monkey.patch_all()
            print([name for name in ("ssl", "subprocess", "logging", "concurrent.futures") if name in sys.modules])
            print(monkey.is_module_patched("ssl"), monkey.is_module_patched("subprocess"))
            # Our module first: it imports the standard one, in the middle of its own import.
            import weald.ssl
            original = monkey.get_original("ssl", "SSLContext")
            print(original.__name__, original.__base__.__module__)
            import ssl
            print(ssl.SSLContext is weald.ssl.SSLContext is not original)
            print(monkey.is_object_patched("subprocess", "Popen"), "subprocess" in sys.modules)
            import subprocess, weald.subprocess, concurrent.futures.thread as executors, weald.thread
            print(subprocess.Popen is weald.subprocess.Popen, type(subprocess.__loader__).__module__ != "weald._on_import",
                  isinstance(executors._global_shutdown_lock, weald.thread.LockType))
            print([finder for finder in sys.meta_path if "weald" in repr(finder)])
            """,
            how="plain",
            WEALD_AS_GEVENT="0",
        )

    def test_who_subscribes_is_told_of_all_at_once(self):
        self.prints(
            "True True True",
            """
            import sys
            from weald import events, monkey

            told = []
            events.subscribers.append(lambda event: told.append(getattr(event, "module_name", None)))
            monkey.patch_all()
            print("ssl" in told, "subprocess" in told, "ssl" in monkey.saved)
            """,
        )

    def test_interfaces_of_events_come_when_asked_for(self):
        self.prints(
            "False True True",
            """
            import sys
            from weald import events, monkey

            monkey.patch_all()
            early = "weald._event_interfaces" in sys.modules
            event = events.MemoryUsageThresholdExceeded(1, 2, None)
            interface = events.IMemoryUsageThresholdExceeded
            told = interface.providedBy(event) if hasattr(interface, "providedBy") else interface in event.__implemented__
            from weald.events import *
            print(early, told, IEventLoopBlocked is events.IEventLoopBlocked)
            """,
        )

    def test_in_a_thread_it_warns(self):
        done = support.run(
            """
            import threading
            def patch():
                from gevent import monkey
                monkey.patch_all()
            thread = threading.Thread(target=patch)
            thread.start()
            thread.join()
            print("joined")
            """
        )
        self.assertIn("MonkeyPatchWarning", done.err, done)
        self.assertIn("joined", done.out, done)


class Threads(support.TestCase):
    def test_threads_are_greenlets_that_can_be_joined(self):
        self.prints(
            """
            True True
            MainThread
            [0, 1, 2] 3
            False
            """,
            PATCH
            + """
import threading, time
import gevent
begun = time.monotonic()
done = []
def work(n):
    time.sleep(0.2)
    done.append(n)
threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
print(all(thread.is_alive() for thread in threads), threading.active_count() == 4)
print(threading.current_thread().name)
for thread in threads:
    thread.join()
print(done, len({thread.ident for thread in threads}))
print(any(thread.is_alive() for thread in threads))
assert time.monotonic() - begun < 2
""",
        )

    def test_locks_conditions_and_executors(self):
        self.prints(
            """
            [0, 1, 4, 9, 16]
            woken
            True
            inner
            """,
            PATCH
            + """
import threading, time
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as executor:
    print(list(executor.map(lambda n: (time.sleep(0.01), n * n)[1], range(5))))
condition, ready = threading.Condition(), []
def waiter():
    with condition:
        condition.wait_for(lambda: ready, timeout=5)
        print("woken")
thread = threading.Thread(target=waiter); thread.start()
time.sleep(0.05)
with condition:
    ready.append(1); condition.notify_all()
thread.join()
lock = threading.RLock()
with lock, lock:
    pass
print(threading.Lock().acquire(timeout=0.01))
timer = threading.Timer(0.01, lambda: print("inner")); timer.start(); timer.join()
""",
        )

    def test_main_waits_for_threads_at_the_end(self):
        self.prints(
            """
            main ends
            thread ends
            atexit
            """,
            PATCH
            + """
import atexit, threading, time
atexit.register(print, "atexit")
def work():
    time.sleep(0.2)
    print("thread ends")
threading.Thread(target=work).start()
print("main ends")
""",
        )

    def test_main_can_be_joined(self):
        self.prints(
            """
            main ends
            joined main
            """,
            PATCH
            + """
import threading
def work():
    threading.main_thread().join()
    print("joined main")
threading.Thread(target=work).start()
import time; time.sleep(0.05)
print("main ends")
""",
        )

    def test_logging_works_between_threads(self):
        done = support.run(
            PATCH
            + """
import logging, threading
logging.basicConfig(level=logging.INFO, format="%(threadName)s %(message)s")
threads = [threading.Thread(target=logging.info, args=("hi",), name=f"t{n}") for n in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
        )
        self.assertEqual(done.status, 0, done)
        self.assertEqual(sorted(done.err.splitlines()), ["t0 hi", "t1 hi", "t2 hi"])


class Processes(support.TestCase):
    def test_fork_and_wait(self):
        self.prints(
            """
            child False
            parent 7
            """,
            PATCH
            + """
import os, sys, time
import gevent
pid = os.fork()
if not pid:
    gevent.spawn(gevent.sleep, 0.01).join()
    print("child", False, flush=True)
    os._exit(7)
ended, status = os.waitpid(pid, 0)
assert ended == pid
print("parent", os.waitstatus_to_exitcode(status))
""",
        )

    def test_the_loop_goes_on_in_a_child(self):
        self.prints(
            """
            before
            child [1, 2]
            """,
            PATCH
            + """
import os
import gevent
# The hub has run, and a thread too.
print(gevent.get_hub().threadpool.apply(lambda: "before"), flush=True)
pid = os.fork()
if not pid:
    seen = []
    gevent.get_hub().loop.run_callback(seen.append, 1)
    gevent.sleep(0.01)
    gevent.spawn(seen.append, 2).join()
    print("child", seen, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
""",
        )

    def test_subprocess_run(self):
        self.prints(
            """
            0 timber
            3
            True
            """,
            PATCH
            + """
import subprocess, time
done = subprocess.run(["echo", "timber"], capture_output=True, text=True, check=True)
print(done.returncode, done.stdout.strip())
print(subprocess.call(["sh", "-c", "exit 3"]))
began = time.monotonic()
try:
    subprocess.run("sleep 30", shell=True, timeout=0.2, capture_output=True)
except subprocess.TimeoutExpired:
    # The shell's own child has the pipe still.
    print(time.monotonic() - began < 3)
""",
        )

    def test_sigchld_handlers_are_called(self):
        self.prints(
            "called",
            PATCH
            + """
import os, signal
import gevent
called = gevent.event.Event()
signal.signal(signal.SIGCHLD, lambda *args: called.set())
if not os.fork():
    os._exit(0)
print("called" if called.wait(10) else "not called")
""",
        )

    def test_multiprocessing_by_fork(self):
        self.prints(
            "[0, 1, 4]",
            """
            from gevent import monkey; monkey.patch_all(thread=False, queue=False)
            import multiprocessing

            def square(n):
                return n * n

            if __name__ == "__main__":
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    print(pool.map(square, range(3)))
            """,
        )


if __name__ == "__main__":
    unittest.main()
