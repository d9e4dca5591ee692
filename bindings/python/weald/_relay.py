"""A connection that is spoken by a Python object, TLS of the interpreter's above all, for what needs a descriptor.

    client <--TLS--> sock <--recv, sendall--> far <==a pair of sockets==> near <--> the library

What is sent on a WebSocket goes by itself, from the loop, and the loop can call no Python: so two greenlets carry the
bytes between the object and one end of a pair of sockets, and the library has the other end.
"""
import contextlib
from _socket import SHUT_RD, SHUT_RDWR, SHUT_WR

import weald
from weald.socket import socketpair

_RECORD, _MOST = 16384, 65536


class Relay:
    """Carries what comes by `sock` to `near`, and back, until `end`.

    `patience`: how many seconds the other side may take for 64 KiB; None: any time.
    """

    def __init__(self, sock, patience):
        self.near, self._far = socketpair()
        self._sock, self._patience = sock, patience
        self._in, self._out = weald.spawn(self._carry_in), weald.spawn(self._carry_out)

    def end(self, at_once):
        """Closes `near`, and waits until what it was given has gone, unless `at_once`. `sock` is to be closed then."""
        self.near.close()
        try:
            if not at_once:
                self._out.join()
        finally:
            weald.killall([self._in, self._out])
            self._far.close()

    def _carry_in(self):
        try:
            while data := self._sock.recv(_RECORD):
                self._far.sendall(data)
        except (OSError, ValueError):
            pass  # the client is gone, or nobody hears it any more
        finally:
            self._shut(SHUT_WR)

    def _carry_out(self):
        done = SHUT_RDWR  # if nobody reads it any more, neither may anybody write
        try:
            while data := self._far.recv(_MOST):
                with weald.Timeout(self._patience, TimeoutError):
                    self._sock.sendall(data)
            done = SHUT_RD
            if hasattr(self._sock, "_end"):
                self._sock._end()
        except (OSError, ValueError):
            pass
        finally:
            self._shut(done)

    def _shut(self, how):
        with contextlib.suppress(OSError):
            self._far.shutdown(how)
