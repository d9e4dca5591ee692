"""A Python prompt inside a running process, over TCP. Whoever can connect can do anything: bind it to localhost.

    python -m weald.backdoor PORT [BANNER]
"""
import socket
import sys
from code import InteractiveConsole
from weakref import WeakKeyDictionary

from weald.hub import getcurrent
from weald.pool import Pool
from weald.server import StreamServer

__all__ = ["BackdoorServer"]

if not hasattr(sys, "ps1"):
    sys.ps1 = ">>> "
if not hasattr(sys, "ps2"):
    sys.ps2 = "... "


class _Chooser:
    """Stands in the place of sys.stdin or the like: each greenlet that serves a prompt finds its own stream behind it."""

    def __init__(self, name):
        self.name = name
        self.before = None
        self.streams = WeakKeyDictionary()

    def add(self, greenlet, stream):
        if not self.streams:
            self.before = getattr(sys, self.name)
            setattr(sys, self.name, self)
        self.streams[greenlet] = stream

    def remove(self, greenlet):
        self.streams.pop(greenlet, None)
        if not self.streams and getattr(sys, self.name) is self:
            setattr(sys, self.name, self.before)

    def __getattr__(self, name):
        return getattr(self.streams.get(getcurrent(), self.before), name)


_choosers = {name: _Chooser(name) for name in ("stdin", "stdout", "stderr")}


class BackdoorServer(StreamServer):
    """Serves a prompt to each connection, with `locals` of its own."""

    def __init__(self, listener, locals=None, banner=None, **server_args):
        super().__init__(listener, spawn=Pool(), **server_args)
        self.locals = {"__doc__": None, "__name__": "__console__", **(locals or {})}
        self.banner = banner
        self.stderr = sys.stderr

    def _create_interactive_locals(self):
        import builtins

        return {**self.locals, "builtins": builtins, "__builtins__": builtins}

    def handle(self, conn, _address):
        """Serves one connection."""
        try:
            conn.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, True)
        except OSError:
            pass
        lines = conn.makefile(mode="r")
        me, output = getcurrent(), _Output(conn, lines)
        _choosers["stdin"].add(me, _Input(conn, lines))
        _choosers["stdout"].add(me, output)
        _choosers["stderr"].add(me, output)
        try:
            InteractiveConsole(self._create_interactive_locals()).interact(banner=self.banner, exitmsg="")
        except SystemExit:
            # quit()
            pass
        finally:
            for chooser in _choosers.values():
                chooser.remove(me)
            lines.close()
            conn.close()


class _Stream:
    encoding = "utf-8"

    def __init__(self, sock, lines):
        self.sock = sock
        self.fobj = lines
        # input() uses readline only if both streams are terminals.
        self.fileno = sock.fileno

    def close(self):
        """The session closes the socket."""

    def __getattr__(self, name):
        return getattr(self.fobj, name)


class _Output(_Stream):
    """Writes straight to the socket: nobody flushes a prompt."""

    def flush(self):
        pass

    def write(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode(self.encoding))


class _Input(_Stream):
    def readline(self, *args):
        try:
            return self.fobj.readline(*args).replace("\r\n", "\n")
        except UnicodeError:
            # A telnet client sends its commands in between, e.g. for control-C.
            return ""


if __name__ == "__main__":
    if not sys.argv[1:]:
        print(f"USAGE: {sys.argv[0]} PORT [banner]")
    else:
        banner = sys.argv[2] if sys.argv[2:] else None
        BackdoorServer(("127.0.0.1", int(sys.argv[1])), banner=banner, locals={"hello": "world"}).serve_forever()
