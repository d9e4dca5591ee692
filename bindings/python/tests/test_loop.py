"""weald.loop: gevent itself, unmodified and with greenlet's greenlets, on weald's loop.

gevent's own tests say whether it can; they are run in the environment that `make gevent-tests` compares with.
"""
import re
import subprocess
import unittest
from pathlib import Path

import gevent_tests
import support
import weald

MODULES = """test__core test__core_callback test__core_loop_run test__core_watcher test__loop_callback test__hub
    test__hub_join test__hub_join_timeout test__order test__event test__timeout test__queue test__semaphore
    test__greenlet test__api""".split()
# A path that holds weald, and nothing else of its environment.
ALONE = gevent_tests.TARGET / "gevent-loop"


class Gevent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            cls.python = gevent_tests.prepare_own()
        except (OSError, subprocess.CalledProcessError) as error:
            raise unittest.SkipTest(f"gevent can not be installed: {error}") from None
        ALONE.mkdir(parents=True, exist_ok=True)
        link = ALONE / "weald"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(weald.__file__).parent)

    def run_with_loop(self, *words):
        env = support.environment(GEVENT_LOOP="weald.loop.Loop", PYTHONPATH=ALONE, GEVENTTEST_QUIET="1")
        del env["WEALD_AS_GEVENT"]
        done = subprocess.run(
            [self.python, *words], env=env, capture_output=True, text=True, timeout=4 * support.LIMIT
        )
        return done.returncode, done.stdout + done.stderr

    def test_it_is_ours(self):
        status, output = self.run_with_loop("-c", "import gevent; print(type(gevent.get_hub().loop).__module__)")
        self.assertEqual((status, output.strip()), (0, "weald.loop"), output)

    def test_its_own_tests_pass(self):
        for module in MODULES:
            with self.subTest(module=module):
                status, output = self.run_with_loop("-m", f"gevent.tests.{module}")
                self.assertEqual(status, 0, output)
                ran = re.search(r"^Ran (\d+) tests?", output, re.M)
                self.assertTrue(ran is None or int(ran[1]) > 0)


if __name__ == "__main__":
    unittest.main()
