"""What servers share: accepting, and starting a handler for each thing that came."""
import errno
import sys

from weald.event import Event
from weald.greenlet import Greenlet
from weald.hub import get_hub

__all__ = ["BaseServer"]

from _socket import AF_INET, AF_INET6


def _handle_and_close_when_done(handle, close, args_tuple):
    try:
        if len(args_tuple) == 2:
            # A socket and an address. Named, they need half a kilobyte less of the greenlet's stack: often a page.
            sock, address = args_tuple
            return handle(sock, address)
        return handle(*args_tuple)
    finally:
        close(*args_tuple)


class BaseServer:
    """Calls `handle` for what comes to `listener`: an address, or a socket that is bound already.

    spawn is how handlers are started: "default" a Greenlet each; a Pool, whose being full stops the accepting; a
    number, for a pool of that size; `spawn_raw`; or None, which calls them in the hub, where they must not wait. The
    connection is closed when the handler returns.
    """

    #: Seconds without accepting after an error; doubled by each further one, up to max_delay.
    min_delay = 0.01
    max_delay = 1
    #: Connections accepted in one go. Few, if other processes listen on the same socket.
    max_accept = 100
    #: Seconds that stop() waits for handlers.
    stop_timeout = 1
    #: Errors of accept after which there is nothing left to accept from.
    fatal_errors = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)

    _spawn = Greenlet.spawn

    def __init__(self, listener, handle=None, spawn="default"):
        self._stop_event = Event()
        self._stop_event.set()
        self._watcher = self._timer = self._handle = None
        self.pool = None
        self.loop = get_hub().loop
        self.delay = self.min_delay
        try:
            self.set_listener(listener)
            if self.max_accept < 1:
                raise ValueError(f"max_accept must be positive int: {self.max_accept!r}")
            self.set_handle(handle)
            self.set_spawn(spawn)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.stop()

    # ---- what it is made of ----

    def set_listener(self, listener):
        if not hasattr(listener, "accept"):
            self.family, self.address = parse_address(listener)
            return
        if hasattr(listener, "do_handshake"):
            raise TypeError(f"Expected a regular socket, not SSLSocket: {listener!r}")
        self.family = listener.family
        self.address = listener.getsockname()
        self.socket = listener

    def set_spawn(self, spawn):
        self.pool = None
        if spawn == "default":
            self._spawn = self._spawn
        elif hasattr(spawn, "spawn"):
            self.pool = spawn
        elif isinstance(spawn, int):
            from weald.pool import Pool

            self.pool = Pool(spawn)
        else:
            self._spawn = spawn
        pool = self.pool
        if pool is not None:
            self._spawn = pool.spawn
            self.full = getattr(pool, "full", self.full)
            pool._semaphore.rawlink(self._resume)

    def set_handle(self, handle):
        if handle is None:
            # A subclass may have it as a method.
            handle = getattr(self, "handle", None)
            if handle is None:
                raise TypeError("a server needs something that handles what comes: 'handle'")
        else:
            self.handle = handle
        self._handle = handle

    def full(self):
        """Whether no more may be accepted for now."""
        return False

    # To be given by a subclass.
    def init_socket(self):
        """Makes the socket, if the server was given an address."""

    def do_read(self):
        """Takes what came: the arguments for the handler, or None if there is nothing."""
        raise NotImplementedError

    def do_close(self, *args):
        """Gives up what do_read took."""

    # ---- accepting ----

    def start_accepting(self):
        if self._watcher is None:
            self._watcher = self.loop.io(self.socket.fileno(), 1)
            self._watcher.start(self._do_read)

    def stop_accepting(self):
        for watcher in self._watcher, self._timer:
            if watcher is not None:
                watcher.stop()
                watcher.close()
        self._watcher = self._timer = None

    def _resume(self, _semaphore=None):
        """After a pause, or when a pool has room again."""
        if self.started:
            self.start_accepting()

    def _pause(self):
        """Accepts nothing for a while, longer each time."""
        seconds = self.delay
        if seconds < 0:
            return
        self.delay = min(2 * seconds, self.max_delay)
        self.stop_accepting()
        self._timer = timer = self.loop.timer(seconds)
        timer.start(self._resume)

    def _do_read(self):
        for _ in range(self.max_accept):
            if self.full():
                self._pause_until_room()
                return
            try:
                args = self.do_read()
            except BaseException as problem:
                self._failed_to_read(problem)
                return
            self.delay = self.min_delay
            if not args:
                return
            try:
                self.do_handle(*args)
            except BaseException:
                self.loop.handle_error((args[1:], self), *sys.exc_info())
                self._pause()
                return

    def _pause_until_room(self):
        self.stop_accepting()
        if self.pool is not None:
            self.pool._semaphore.rawlink(self._resume)

    def _failed_to_read(self, problem):
        self.loop.handle_error(self, *sys.exc_info())
        if not self.is_fatal_error(problem):
            self._pause()
            return
        self.close()
        sys.stderr.write(f"ERROR: {self} failed with {str(problem) or repr(problem)}\n")

    def do_handle(self, *args):
        spawn, handle, close = self._spawn, self._handle, self.do_close
        try:
            if spawn is None:
                _handle_and_close_when_done(handle, close, args)
            else:
                spawn(_handle_and_close_when_done, handle, close, args)
        except BaseException:
            close(*args)
            raise

    def is_fatal_error(self, ex):
        return isinstance(ex, OSError) and ex.args[0] in self.fatal_errors

    # ---- starting and stopping ----

    @property
    def started(self):
        return not self._stop_event.is_set()

    @property
    def closed(self):
        return not hasattr(self, "socket")

    def start(self):
        """Begins to accept, having bound the socket if that is its own."""
        self.init_socket()
        self._stop_event.clear()
        try:
            self.start_accepting()
        except BaseException:
            self.close()
            raise

    def close(self):
        """Closes the listening socket. Handlers run on."""
        self._stop_event.set()
        try:
            self.stop_accepting()
        finally:
            self._close_socket()
            # They refer to the server, or to what is closed.
            for name in "socket", "handle", "_handle", "_spawn", "full":
                self.__dict__.pop(name, None)
            if self.pool is not None:
                self.pool._semaphore.unlink(self._resume)

    def _close_socket(self):
        try:
            self.socket.close()
        except Exception:
            pass

    def stop(self, timeout=None):
        """Closes; with a pool, waits `timeout` seconds (stop_timeout) for its handlers, and kills the rest."""
        self.close()
        pool = self.pool
        if pool:
            pool.join(self.stop_timeout if timeout is None else timeout)
            pool.kill(timeout=1)

    def serve_forever(self, stop_timeout=None):
        """Starts, and returns when somebody has stopped it."""
        if not self.started:
            self.start()
        try:
            self._stop_event.wait()
        finally:
            # In another greenlet: this one may be dying.
            Greenlet.spawn(self.stop, timeout=stop_timeout).join()

    # ---- as text ----

    @property
    def server_host(self):
        """The address that it is bound to."""
        return self.address[0] if isinstance(self.address, tuple) else None

    @property
    def server_port(self):
        """The port that it is bound to."""
        return self.address[1] if isinstance(self.address, tuple) else None

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} {self._formatinfo()}>"

    def __str__(self):
        return f"<{type(self).__name__} {self._formatinfo()}>"

    def _formatinfo(self):
        parts = []
        if hasattr(self, "socket"):
            try:
                parts.append(f"fileno={self.socket.fileno()}")
            except Exception as problem:
                parts.append(f"fileno={problem}")
        address = getattr(self, "address", None)
        if isinstance(address, tuple) and len(address) == 2:
            parts.append("address={}:{}".format(*address))
        else:
            parts.append(f"address={address}")
        handle = self.__dict__.get("handle")
        if handle is not None:
            if getattr(handle, "__self__", None) is self:
                parts.append(f"handle=<bound method {type(self).__name__}.{handle.__name__} of self>")
            else:
                try:
                    parts.append(f"handle={handle!r}")
                except Exception as problem:
                    parts.append(str(problem) or "<error>")
        return " ".join(parts)


def parse_address(address):
    """A family and an address that a socket of that family binds to, from (host, port), "host:port" or a port."""
    try:
        return _parse_address(address)
    except ValueError as problem:
        raise ValueError(f"Failed to parse address {address!r}: {problem}") from problem


def _parse_address(address):
    if isinstance(address, tuple):
        # Without a host all addresses are meant, of both families.
        return (AF_INET6 if not address[0] or ":" in address[0] else AF_INET), address
    if isinstance(address, int) or (isinstance(address, str) and ":" not in address):
        return AF_INET6, ("", int(address))
    if not isinstance(address, str):
        raise TypeError(f"Expected tuple or string, got {type(address)}")
    host, _, port = address.rpartition(":")
    family = AF_INET
    if host.startswith("[") and host.endswith("]"):
        family, host = AF_INET6, host[1:-1]
    return family, ("" if host == "*" else host, int(port))
