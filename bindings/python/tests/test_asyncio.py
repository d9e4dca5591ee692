"""weald.asyncio: coroutines and greenlets wait for one another, in one thread."""
import asyncio
import sys
import threading
import unittest

import support

import weald
import weald.asyncio
import weald.event
import weald.queue


class Loop(unittest.TestCase):
    def test_greenlets_go_on_while_a_coroutine_sleeps(self):
        seen = []

        def tick():
            for n in range(3):
                seen.append(n)
                weald.sleep(0.001)

        async def main():
            ticker = weald.spawn(tick)
            await asyncio.sleep(0.2)
            self.assertTrue(ticker.ready())
            return "done"

        self.assertEqual(weald.asyncio.run(main()), "done")
        self.assertEqual(seen, [0, 1, 2])

    def test_a_busy_loop_leaves_greenlets_their_turn(self):
        turns = []
        counter = weald.spawn(lambda: [turns.append(weald.sleep(0)) for _ in range(10)])

        async def main():
            for _ in range(100):
                await asyncio.sleep(0)

        weald.asyncio.run(main())
        self.assertEqual(len(turns), 10)
        counter.join()

    def test_each_greenlet_may_run_a_loop(self):
        meeting = weald.event.Event()

        async def main(n):
            if n == 2:
                meeting.set()
            while not meeting.is_set():
                await asyncio.sleep(0.001)
            return asyncio.get_running_loop()

        greenlets = [weald.spawn(weald.asyncio.run, main(n)) for n in range(3)]
        self.assertEqual(len({id(g.get(timeout=30)) for g in greenlets}), 3)

    def test_a_policy_and_a_factory_make_our_loop(self):
        async def kind():
            return type(asyncio.get_running_loop())

        if sys.version_info < (3, 14):
            self.assertIs(type(weald.asyncio.EventLoopPolicy().new_event_loop()), weald.asyncio.EventLoop)
        if sys.version_info >= (3, 12):
            self.assertIs(asyncio.run(kind(), loop_factory=weald.asyncio.EventLoop), weald.asyncio.EventLoop)
        self.assertIs(weald.asyncio.run(kind()), weald.asyncio.EventLoop)

    def test_another_thread_can_wake_it(self):
        async def main():
            loop, future = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
            threading.Timer(0.05, loop.call_soon_threadsafe, (future.set_result, "woken")).start()
            return await future

        self.assertEqual(weald.asyncio.run(main()), "woken")

    def test_sockets_subprocesses_and_threads(self):
        async def serve(reader, writer):
            writer.write((await reader.readline()).upper())
            await writer.drain()
            writer.close()

        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"oak\n")
            line = await reader.readline()
            writer.close()
            server.close()
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print('ash')", stdout=asyncio.subprocess.PIPE
            )
            out, _ = await child.communicate()
            elm = await asyncio.get_running_loop().run_in_executor(None, lambda: "elm")
            return line, out, child.returncode, elm

        self.assertEqual(weald.asyncio.run(main()), (b"OAK\n", b"ash\n", 0, "elm"))


class Wrap(unittest.TestCase):
    def test_a_value_and_an_exception(self):
        async def main():
            value = await weald.asyncio.wrap(weald.spawn(lambda: weald.sleep(0.01) or 42))
            try:
                await weald.asyncio.wrap(weald.spawn(int, "x"))
            except ValueError as error:
                return value, str(error)

        hub = weald.get_hub()
        reported, hub.handle_error = [], lambda *what: reported.append(what)
        self.addCleanup(lambda: delattr(hub, "handle_error"))
        value, error = weald.asyncio.run(main())
        self.assertEqual(value, 42)
        self.assertIn("invalid literal", error)

    def test_cancelling_kills_and_killing_cancels(self):
        async def main():
            sleeper = weald.spawn(weald.sleep, 60)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(weald.asyncio.wrap(sleeper), 0.01)
            sleeper.join(timeout=30)
            killed = weald.spawn(weald.sleep, 60)
            future = weald.asyncio.wrap(killed)
            asyncio.get_running_loop().call_later(0.01, lambda: killed.kill(block=False))
            with self.assertRaises(asyncio.CancelledError):
                await future
            return sleeper.dead and killed.dead

        self.assertTrue(weald.asyncio.run(main()))

    def test_one_that_has_ended(self):
        async def main():
            return await weald.asyncio.wrap(done)

        done = weald.spawn(lambda: "before")
        done.join()
        self.assertEqual(weald.asyncio.run(main()), "before")


class Wait(unittest.TestCase):
    def test_many_greenlets_wait_for_coroutines_at_once(self):
        async def double(n):
            await asyncio.sleep(0.01)
            return 2 * n

        greenlets = [weald.spawn(weald.asyncio.wait, double(n)) for n in range(100)]
        self.assertEqual([g.get(timeout=30) for g in greenlets], [2 * n for n in range(100)])

    def test_an_exception(self):
        async def fail():
            raise KeyError("leaf")

        with self.assertRaises(KeyError):
            weald.asyncio.wait(fail())

    def test_a_timeout_and_a_kill_cancel_it(self):
        ends = weald.queue.Queue()

        async def endless():
            try:
                await asyncio.sleep(60)
            finally:
                ends.put("cancelled")

        with self.assertRaises(weald.Timeout):
            weald.asyncio.wait(endless(), timeout=0.05)
        self.assertEqual(ends.get(timeout=30), "cancelled")
        waiter = weald.spawn(weald.asyncio.wait, endless())
        weald.sleep(0.05)
        waiter.kill()
        self.assertEqual(ends.get(timeout=30), "cancelled")

    def test_what_a_coroutine_leaves_running_goes_on(self):
        finished = weald.event.Event()

        async def later():
            await asyncio.sleep(0.05)
            finished.set()

        async def main():
            main.task = asyncio.ensure_future(later())

        weald.asyncio.wait(main())
        self.assertTrue(finished.wait(timeout=30))

    def test_within_its_own_loop_it_is_an_error(self):
        async def main():
            nothing = asyncio.sleep(0)
            try:
                weald.asyncio.wait(nothing)
            finally:
                nothing.close()

        with self.assertRaises(RuntimeError):
            weald.asyncio.wait(main())

    def test_in_a_coroutine_of_another_loop_others_go_on(self):
        async def answer():
            await asyncio.sleep(0.01)
            return "both"

        async def main():
            return weald.asyncio.wait(answer())

        self.assertEqual(weald.asyncio.run(main()), "both")

    def test_threads_have_loops_of_their_own(self):
        async def where():
            await asyncio.sleep(0)
            return id(asyncio.get_running_loop())

        seen = []
        thread = threading.Thread(target=lambda: seen.append(weald.asyncio.wait(where())))
        thread.start()
        thread.join(30)
        self.assertNotEqual(seen, [weald.asyncio.wait(where())])
        self.assertEqual(len(seen), 1)


class Packages(support.TestCase):
    def test_aiohttp_serves_greenlets(self):
        support.need("aiohttp")
        self.prints(
            "20 oak",
            """
import weald, weald.asyncio
import aiohttp
from aiohttp import web

async def start():
    async def hello(request):
        return web.Response(text=await weald.asyncio.wrap(weald.spawn(lambda: weald.sleep(0.01) or "oak")))
    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, site._server.sockets[0].getsockname()[1]

async def fetch(port):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/") as answer:
            return await answer.text()

runner, port = weald.asyncio.wait(start())
texts = weald.joinall([weald.spawn(weald.asyncio.wait, fetch(port)) for n in range(20)])
print(len(texts), *{g.value for g in texts})
weald.asyncio.wait(runner.cleanup())
""",
            how="plain",
        )


if __name__ == "__main__":
    unittest.main()
