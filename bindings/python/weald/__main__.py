"""The command `python -m weald`.

    python -m weald                     versions, and a self-test
    python -m weald run script.py ...   runs a program with `import gevent` meaning weald, and nothing patched
    python -m weald run -m module ...   the same for a module
    python -m weald.monkey script.py    the same with the standard library patched
"""
import sys


def versions():
    """Lines that say what is installed."""
    import weald
    from weald import _alias, _core

    lines = [f"weald {weald.weald_version}"]
    library = getattr(_core, "library_version", None)
    if library is not None:
        lines.append(f"libweald {library() if callable(library) else library}")
    lines.append(f"{sys.implementation.name} {sys.version.split()[0]} on {sys.platform}")
    lines += (f"stands in for {name} {version}" for name, version in _alias.STANDS_FOR.items())
    return lines


# ---- the self-test: one short claim for each part that needs the system to play along ----


def _switches():
    from weald.greenlet import getcurrent, greenlet

    main, seen = getcurrent(), []
    child = greenlet(lambda: (seen.append(1), main.switch(), seen.append(2)))
    child.switch()
    child.switch()
    assert seen == [1, 2] and child.dead


def _sleeps():
    import time

    import weald

    began = time.monotonic()
    weald.joinall([weald.spawn(weald.sleep, 0.02) for _ in range(50)])
    assert 0.015 < time.monotonic() - began < 0.5


def _queues():
    import weald
    from weald.queue import Queue

    queue, seen = Queue(2), []
    weald.joinall([
        weald.spawn(lambda: [queue.put(number) for number in range(5)]),
        weald.spawn(lambda: seen.extend(queue.get() for _ in range(5))),
    ])  # fmt: skip
    assert seen == [0, 1, 2, 3, 4]


def _times_out():
    import weald

    try:
        with weald.Timeout(0.01):
            weald.sleep(5)
    except weald.Timeout:
        return
    raise AssertionError("no timeout")


def _talks():
    import weald
    from weald.server import StreamServer
    from weald.socket import create_connection

    def echo(sock, address):
        sock.sendall(sock.recv(100))

    with StreamServer(("127.0.0.1", 0), echo) as server:
        server.start()
        with weald.Timeout(5), create_connection(("127.0.0.1", server.server_port)) as client:
            client.sendall(b"weald")
            assert client.recv(100) == b"weald"


def _uses_threads():
    import threading

    import weald

    assert weald.get_hub().threadpool.apply(threading.get_ident) != threading.get_ident()


def _runs_programs():
    from weald import subprocess

    assert subprocess.check_output(["/bin/echo", "weald"]) == b"weald\n"


def _stands_in():
    import weald

    weald.install_as_gevent()
    import gevent.queue
    import greenlet

    assert sys.modules["gevent.queue"] is weald.queue and greenlet.getcurrent is weald.getcurrent


CHECKS = _switches, _sleeps, _queues, _times_out, _talks, _uses_threads, _runs_programs, _stands_in


def self_test():
    """Runs the checks, says which failed, and returns how many."""
    import traceback

    failed = 0
    for check in CHECKS:
        name = check.__name__.strip("_").replace("_", " ")
        try:
            check()
        except Exception:
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc()
        else:
            print(f"ok     {name}")
    return failed


# ---- run ----


def run(argv):
    """Runs a script, or a module after -m, with the alias on, here and in child processes."""
    import os
    import pkgutil
    import runpy

    import weald

    weald.install_as_gevent()
    os.environ["WEALD_AS_GEVENT"] = "1"
    if argv[0] == "-m":
        sys.argv[:] = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        return
    sys.argv[:] = argv
    # As the interpreter does it for a script.
    sys.path[0] = os.path.dirname(os.path.abspath(argv[0]))
    if pkgutil.get_importer(argv[0]) is not None or not os.path.isfile(argv[0]):
        runpy.run_path(argv[0], run_name="__main__")  # a directory or an archive, or what says that there is nothing
        return
    run_script(os.path.abspath(argv[0]))


def run_script(file):
    """Runs a file as the interpreter does: it is __main__, and still is when threads and exit handlers look for it."""
    import io
    import pkgutil
    import types

    with io.open_code(file) as source:
        code = pkgutil.read_code(source)  # of one that is compiled already
        if code is None:
            source.seek(0)
            code = compile(source.read(), file, "exec", dont_inherit=True)
    module = types.ModuleType("__main__")
    vars(module).update(__file__=file, __builtins__=__builtins__, __annotations__={}, __cached__=None)
    sys.modules["__main__"] = module
    exec(code, vars(module))


def main():
    argv = sys.argv[1:]
    if not argv:
        print("\n".join(versions()))
        sys.exit(1 if self_test() else 0)
    if argv[0] in ("-V", "--version"):
        print("\n".join(versions()))
    elif argv[0] == "run" and len(argv) > (2 if argv[1:2] == ["-m"] else 1):
        run(argv[1:])
    else:
        print(__doc__.strip())
        sys.exit(0 if argv[0] in ("-h", "--help") else 2)


if __name__ == "__main__":
    main()
