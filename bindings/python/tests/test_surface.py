"""Every public name of gevent's, and every way to call what has one, side by side with gevent itself."""
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

import support

# What gevent has by chance, or by its loop, and nobody finds here; a name, or module.name, or module.class.member.
ABSENT = {
    # Its own, inside.
    "gevent.core.loop.WatcherType", "gevent.core.loop.sig_pending", "gevent.lock.atomic", "gevent.pool.pass_value",
    "gevent.resolver.blocking.Resolver.method", "gevent.select.PollResult", "gevent.select.SelectResult",
    "gevent.subprocess.Popen.pipe_cloexec",
    # What each object has, and not the class.
    "gevent.hub.Hub.loop", "gevent.hub.Hub.run", "gevent.threadpool.ThreadPool.fork_watcher", "gevent.threadpool.ThreadPool.hub",
    "gevent.threadpool.ThreadPool.manager", "gevent.threadpool.ThreadPool.pid", "gevent.threadpool.ThreadPool.task_queue",
    "gevent.util.GreenletTree.greenlet",
}  # fmt: skip
# These take any arguments there, and refuse all but the ones that ours have; send has a timeout there for sendall.
SAID_BETTER = (".imap", ".imap_unordered", ".getaddrinfo", ".recv", ".recv_into", ".send")
KINDS = {"POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD"}


def look(wanted=None, **env):
    program = Path(__file__).with_name("surface.py")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GEVENT", "PYTHON", "WEALD"))}
    done = subprocess.run([sys.executable, program, *(["-"] if wanted else [])], env={**clean, **env}, text=True, timeout=support.LIMIT,
                          input=json.dumps(wanted) if wanted else None, capture_output=True)  # fmt: skip
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def refuses(theirs, ours):
    """What a call that gevent takes is refused for here; None if nothing is."""
    named = {name: has for name, kind, has in ours if kind in KINDS or kind == "KEYWORD_ONLY"}
    takes_all = any(kind == "VAR_POSITIONAL" for _, kind, _ in ours), any(kind == "VAR_KEYWORD" for _, kind, _ in ours)
    places = [name for name, kind, _ in ours if kind in KINDS]
    for at, (name, kind, has_default) in enumerate(theirs):
        if kind in KINDS:
            if at >= len(places) and not takes_all[0]:
                return f"no {at + 1} arguments"
            if name.startswith("_") or (at == 0 and name in ("self", "cls", "type")):
                continue
            if name not in named and not takes_all[1]:
                return f"no {name}"
        elif kind == "KEYWORD_ONLY" and name not in named and not takes_all[1]:
            return f"no {name}"
        elif kind == "VAR_POSITIONAL" and not takes_all[0]:
            return "no *args"
        elif kind == "VAR_KEYWORD" and not takes_all[1]:
            return "no **kwargs"
        if has_default and named.get(name, True) is False:
            return f"{name} has no default"
    return None


class Surface(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        support.need("gevent")
        cls.theirs = look()
        cls.ours = look({module: list(names) for module, names in cls.theirs.items()}, WEALD_AS_GEVENT="1")

    def each(self):
        """(its name, gevent's parameters, ours, whether we have it)."""
        for module, names in self.theirs.items():
            for name, (parameters, members) in names.items():
                if name not in self.ours[module]:
                    yield f"{module}.{name}", None, None, False
                    continue
                our_parameters, our_members = self.ours[module][name]
                yield f"{module}.{name}", parameters, our_parameters, True
                for member, how in members.items():
                    yield f"{module}.{name}.{member}", how, our_members.get(member), member in our_members

    def test_no_name_is_missing(self):
        self.assertEqual(sorted({name for name, _, _, is_there in self.each() if not is_there} - ABSENT), [])

    def test_what_can_be_called_can_be_called_the_same_way(self):
        refused = [(name, refuses(theirs, ours)) for name, theirs, ours, _ in self.each() if theirs is not None and ours is not None]
        self.assertEqual([pair for pair in refused if pair[1] and not pair[0].endswith(SAID_BETTER)], [])

    def test_who_asks_for_a_signature_gets_one(self):
        without = {name for name, theirs, ours, is_there in self.each() if theirs is not None and ours is None and is_there}
        self.assertEqual(sorted(without - ABSENT), [])


if __name__ == "__main__":
    unittest.main()
