"""Files whose reads and writes let other greenlets run: `FileObject` is the class that config.fileobject names.

    FileObjectPosix     for pipes, sockets and terminals: the descriptor is made non-blocking and waited for
    FileObjectThread    for regular files: each call is made in the hub's thread pool
    FileObjectBlock     an ordinary file

All take what `open` takes; the file may be a path, a descriptor, or an object that has one.
"""
import io
import os
from errno import EBADF
from functools import wraps
from io import BytesIO, FileIO as _FileIO, RawIOBase, UnsupportedOperation

from weald import _core
from weald._config import config
from weald._wait import cancel_wait_ex, close_fd, wait
from weald.hub import get_hub
from weald.lock import DummySemaphore, Semaphore
from weald.os import _read, _write, ignored_errors, make_nonblocking

__all__ = ["FileObjectPosix", "FileObjectThread", "FileObjectBlock", "FileObject"]


class FileObjectClosed(OSError):
    def __init__(self):
        super().__init__(EBADF, "Bad file descriptor (FileObject was closed)")


class FlushingBufferedWriter(io.BufferedWriter):
    """Writes everything at once, and still takes any amount."""

    def write(self, b):
        written = super().write(b)
        self.flush()
        return written


class WriteallMixin:
    """Adds writeall to a raw file, whose write may take only a part."""

    def writeall(self, value):
        """Writes the whole value, and returns its length."""
        write = super().write
        total = len(value)
        while value:
            written = write(value)
            if written == len(value):
                break
            value = value[written:]
        return total


class WriteIsWriteallMixin(WriteallMixin):
    def write(self, value):
        return self.writeall(value)


class FileIO(_FileIO):
    """The interpreter's own class, as one that an object can be moved out of."""

    __slots__ = ()


class WriteallFileIO(WriteIsWriteallMixin, _FileIO):
    pass


def _one_of(name, value, old_name, old_value, default):
    if value is not None and old_value is not None:
        raise TypeError(f"Cannot specify both {name}={value} and {old_name}={old_value}")
    if value is None:
        value = old_value
    return default if value is None else value


class OpenDescriptor:
    """The arguments of `open`, checked; `opened()` is the file that they ask for, with its buffer and its text layer.

    With atomic_write, an unbuffered file writes all it is given.
    """

    default_buffer_size = io.DEFAULT_BUFFER_SIZE
    _opened = _opened_raw = None

    def __init__(self, fobj, mode="r", bufsize=None, close=None, encoding=None, errors=None, newline=None,
                 buffering=None, closefd=None, atomic_write=False):  # fmt: skip
        closefd = _one_of("closefd", closefd, "close", close, True)
        buffering = _one_of("buffering", buffering, "bufsize", bufsize, -1)
        if not hasattr(fobj, "fileno"):
            if not isinstance(fobj, int):
                fobj = os.fspath(fobj)
                closefd = True
        for name, value, kind in ("mode", mode, str), ("buffering", buffering, int):
            if not isinstance(value, kind):
                raise TypeError(f"invalid {name}: {value!r}")
        for name, value in ("encoding", encoding), ("errors", errors):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"invalid {name}: {value!r}")
        letters = set(mode)
        if letters - set("axrwb+tU") or len(mode) > len(letters):
            raise ValueError(f"invalid mode: {mode!r}")
        self.creating, self.reading, self.writing, self.appending = (letter in letters for letter in "xrwa")
        self.updating = "+" in letters
        self.text, self.binary, self.universal = "t" in letters, "b" in letters, "U" in letters
        self.can_write = self.creating or self.writing or self.appending or self.updating
        if self.universal:
            if self.can_write:
                raise ValueError("mode U cannot be combined with 'x', 'w', 'a', or '+'")
            self.reading = True
        self.can_read = self.reading or self.updating
        if self.text and self.binary:
            raise ValueError("can't have text and binary mode at once")
        ways = self.creating + self.reading + self.writing + self.appending
        if ways > 1:
            raise ValueError("can't have read/write/append mode at once")
        if not ways:
            raise ValueError("must have exactly one of read/write/append mode")
        if self.binary:
            for name, value in ("encoding", encoding), ("errors", errors), ("newline", newline):
                if value is not None:
                    article = "an" if name[0] == "e" else "a"
                    raise ValueError(f"binary mode doesn't take {article} {name} argument")
            if buffering == 1:
                import warnings

                warnings.warn(
                    "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                    RuntimeWarning, 4,
                )  # fmt: skip
        self._fobj = fobj
        self.fileio_mode = "".join(
            letter
            for letter, there in zip(
                "xrwa+", (self.creating, self.reading, self.writing, self.appending, self.updating)
            )
            if there
        )
        self.mode = self.fileio_mode + ("t" if self.text else "") + ("b" if self.binary else "")
        self.native = not (self.text or self.binary or encoding or errors)
        self.buffering, self.encoding, self.errors, self.newline = buffering, encoding, errors, newline
        self.closefd, self.atomic_write = closefd, atomic_write

    def is_fd(self):
        return isinstance(self._fobj, int)

    def opened_raw(self):
        """The raw file, without buffer and text."""
        raw = self._opened_raw
        if raw is None:
            raw = self._opened_raw = self._open_raw()
        return raw

    def _open_raw(self):
        if hasattr(self._fobj, "fileno"):
            return self._fobj
        return FileIO(self._fobj, self.fileio_mode, self.closefd)

    def opened(self):
        """The file."""
        if self._opened is None:
            raw = self.opened_raw()
            try:
                self._opened = self._wrapped(raw)
            except BaseException:
                raw.close()
                raise
        return self._opened

    @staticmethod
    def is_buffered(stream):
        return isinstance(stream, (io.BufferedIOBase, io.TextIOBase)) or getattr(stream, "buffer", None) is not None

    @classmethod
    def buffer_size_for_stream(cls, stream):
        try:
            size = os.fstat(stream.fileno()).st_blksize
        except (OSError, AttributeError):
            return cls.default_buffer_size
        return size if size > 1 else cls.default_buffer_size

    def _buffered(self, stream, size):
        if self.updating:
            kind = io.BufferedRandom
        elif self.creating or self.writing or self.appending:
            kind = io.BufferedWriter
        else:
            kind = io.BufferedReader
        try:
            return kind(stream, size)
        except AttributeError:
            # Not a raw file, but an object that looks like one.
            return stream

    def _is_new(self, raw):
        return self._fobj is not raw

    def _wrapped(self, raw):
        if self.binary and isinstance(raw, io.TextIOBase):
            # The text layer has its own buffer, from which nothing can be taken back.
            raise ValueError("Unable to perform binary IO on top of text IO stream")
        file, size = raw, self.buffering
        by_line = size == 1 or (size < 0 and raw.isatty())
        if by_line or size < 0:
            size = self.buffer_size_for_stream(raw)
        if size and not self.is_buffered(file):
            file = self._buffered(file, size)
        if not self.binary and not isinstance(raw, io.TextIOBase):
            file = io.TextIOWrapper(file, self.encoding, self.errors, self.newline, by_line)
        if file is not raw or self._is_new(raw):
            try:
                file.mode = self.mode
            except (AttributeError, TypeError):
                # Buffers take theirs from the raw file.
                pass
        if self.atomic_write and not self.is_buffered(file) and not isinstance(file, WriteIsWriteallMixin):
            file = self._make_atomic(file, raw)
        return file

    def _make_atomic(self, file, raw):
        if file is not raw or self._is_new(raw):
            if type(file) is not FileIO:
                raise NotImplementedError(f"cannot make the writes of {file!r} atomic")
            file.__class__ = WriteallFileIO
        return file


class _ClosedIO:
    """Takes the place of the file when it is closed."""

    __slots__ = ("name",)

    def __init__(self, file):
        try:
            self.name = file.name
        except AttributeError:
            pass

    def __getattr__(self, name):
        if name == "name":
            raise AttributeError(name)
        raise FileObjectClosed

    def __bool__(self):
        return False


class FileObjectBase:
    """What the three kinds share: the methods of the file inside, as attributes."""

    _delegate_methods = (
        "flush", "fileno", "writable", "readable", "seek", "seekable", "tell", "read", "readline", "readlines",
        "read1", "readinto", "write", "writeall", "writelines", "truncate",
    )  # fmt: skip
    _io = None

    def __init__(self, descriptor):
        self._io = descriptor.opened()
        self._close = descriptor.closefd
        self._do_delegate_methods()

    @property
    def io(self):
        """The file inside."""
        return self._io

    @io.setter
    def io(self, file):
        self._io = file
        self._do_delegate_methods()

    def _do_delegate_methods(self):
        for name in self._delegate_methods:
            if hasattr(type(self), name):
                continue
            method = getattr(self._io, name, None)
            if method:
                setattr(self, name, self._wrap_method(method))
            elif name in self.__dict__:
                delattr(self, name)

    def _wrap_method(self, method):
        return method

    @property
    def closed(self):
        return isinstance(self._io, _ClosedIO)

    def close(self):
        if self.closed:
            return
        file = self._io
        self._io = _ClosedIO(file)
        try:
            self._do_close(file, self._close)
        finally:
            # They hold the file.
            for name in self._delegate_methods:
                self.__dict__.pop(name, None)

    def _do_close(self, fobj, closefd):
        raise NotImplementedError

    def __getattr__(self, name):
        return getattr(self._io, name)

    def __repr__(self):
        closed = "closed" if self.closed else ""
        return f"<{type(self).__name__} at {id(self):#x} {closed}_fobj={self._io!r}{self._extra_repr()}>"

    def _extra_repr(self):
        return ""

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        if line := self.readline():
            return line
        raise StopIteration

    # Text files are iterated in other ways; subprocess asks for this.
    next = __next__


# ---- waiting for the descriptor ----


def _has_position(fileno):
    try:
        os.lseek(fileno, 0, os.SEEK_CUR)
        return True
    except OSError:
        return False


class GreenFileDescriptorIO(RawIOBase):
    """A raw file over a non-blocking descriptor."""

    _reader = _writer = hub = None
    _closed = False
    _can_seek = None
    _keep_alive = None  # whose descriptor it is

    def __init__(self, fileno, open_descriptor, closefd=True):
        super().__init__()
        self._closefd = closefd
        self._fileno = fileno
        self.name = fileno
        self.mode = open_descriptor.mode
        make_nonblocking(fileno)
        self.hub = get_hub()
        try:
            if open_descriptor.can_read:
                self._reader = self.hub.loop.io(fileno, 1)
            if open_descriptor.can_write:
                self._writer = self.hub.loop.io(fileno, 2)
        except BaseException:
            # E.g. a regular file, which no poller takes. The descriptor stays the caller's.
            self._closefd = False
            self.close()
            raise

    def isatty(self):
        return os.isatty(self._fileno)

    def readable(self):
        return self._reader is not None

    def writable(self):
        return self._writer is not None

    def seekable(self):
        answer = self._can_seek
        if answer is None:
            answer = self._can_seek = _has_position(self._fileno)
        return answer

    def fileno(self):
        return self._fileno

    @property
    def closed(self):
        return self._closed

    def close(self):
        if self._closed:
            return
        self.flush()
        self._closed = True
        watchers = self._reader, self._writer
        self._reader = self._writer = self.hub = None
        fileno, keep_alive = self._fileno, self._keep_alive
        self._fileno = self._keep_alive = None
        close_fd(watchers, _finish_close, self._closefd, fileno, keep_alive)

    def _read(self, n):
        if self._reader is None:
            raise UnsupportedOperation("read")
        while True:
            try:
                return _read(self._fileno, n)
            except OSError as problem:
                if problem.errno not in ignored_errors:
                    raise
            wait(self._reader, hub=self.hub)

    def readall(self):
        parts = BytesIO()
        while True:
            try:
                data = self._read(io.DEFAULT_BUFFER_SIZE)
            except cancel_wait_ex:
                # Closed meanwhile: what there is.
                data = None
            if not data:
                return parts.getvalue()
            parts.write(data)

    def readinto(self, b):
        data = self._read(len(b))
        size = len(data)
        memoryview(b).cast("B")[:size] = data
        return size

    def write(self, b):
        if self._writer is None:
            raise UnsupportedOperation("write")
        while True:
            try:
                return _write(self._fileno, b)
            except OSError as problem:
                if problem.errno not in ignored_errors:
                    raise
            wait(self._writer, hub=self.hub)

    def seek(self, offset, whence=0):
        return os.lseek(self._fileno, offset, whence)

    def __repr__(self):
        return f"<{type(self).__name__} at {id(self):#x} fileno={self._fileno} mode={self.mode!r}>"


def _finish_close(closefd, fileno, keep_alive):
    try:
        if closefd:
            _core.close_fd(fileno)
    finally:
        if hasattr(keep_alive, "close"):
            keep_alive.close()


class GreenFileDescriptorIOWriteall(WriteIsWriteallMixin, GreenFileDescriptorIO):
    pass


class GreenOpenDescriptor(OpenDescriptor):
    """Opens a GreenFileDescriptorIO."""

    def _open_raw(self):
        if self.is_fd():
            return GreenFileDescriptorIO(self._fobj, self, closefd=self.closefd)
        raw = super()._open_raw()
        green = GreenFileDescriptorIO(raw.fileno(), self, closefd=False)
        green._keep_alive = raw
        try:
            green.name = raw.name
        except AttributeError:
            del green.name
        return green

    def _make_atomic(self, file, raw):
        if type(file) is GreenFileDescriptorIO:
            file.__class__ = GreenFileDescriptorIOWriteall
            return file
        return super()._make_atomic(file, raw)


class FileObjectPosix(FileObjectBase):
    """A file that is waited for: for what can be polled, such as pipes and sockets. `fileio` is the raw file."""

    default_bufsize = io.DEFAULT_BUFFER_SIZE

    def __init__(self, *args, **kwargs):
        descriptor = GreenOpenDescriptor(*args, **kwargs)
        super().__init__(descriptor)
        self.fileio = descriptor.opened_raw()

    def _do_close(self, fobj, closefd):
        try:
            fobj.close()
            self.fileio.close()
        finally:
            self.fileio = None


# ---- in a thread, and at once ----


class FileObjectThread(FileObjectBase):
    """A file whose calls are made in threads, one at a time unless `lock` is false."""

    def __init__(self, *args, lock=True, threadpool=None, **kwargs):
        descriptor = OpenDescriptor(*args, **kwargs)
        self.threadpool = threadpool or get_hub().threadpool
        if lock is True:
            lock = Semaphore()
        elif not lock:
            lock = DummySemaphore()
        if not hasattr(lock, "__enter__"):
            raise TypeError(f"Expected a Semaphore or boolean, got {type(lock)!r}")
        self.lock = lock
        # The methods look here, and not at self: they would be a cycle, and a file left open.
        self._open = [True]
        super().__init__(descriptor)

    def _do_close(self, fobj, closefd):
        self._open[0] = False
        try:
            with self.lock:
                self.threadpool.apply(fobj.flush)
        finally:
            if closefd:
                # The error is handed over as a value: one that leaves a thread is also reported.
                problem = self.threadpool.apply(_close_and_tell, (fobj,))
                if problem is not None:
                    raise problem

    def _do_delegate_methods(self):
        super()._do_delegate_methods()
        self._open[0] = True

    def _extra_repr(self):
        return f" threadpool={self.threadpool!r}"

    def _wrap_method(self, method):
        is_open, lock, threadpool = self._open, self.lock, self.threadpool

        @wraps(method)
        def in_thread(*args, **kwargs):
            if not is_open[0]:
                raise FileObjectClosed
            with lock:
                return threadpool.apply(method, args, kwargs)

        return in_thread


def _close_and_tell(file):
    try:
        file.close()
    except BaseException as problem:
        return problem
    return None


class FileObjectBlock(FileObjectBase):
    """An ordinary file."""

    def __init__(self, *args, **kwargs):
        super().__init__(OpenDescriptor(*args, **kwargs))

    def _do_close(self, fobj, closefd):
        fobj.close()


def __getattr__(name):
    # Not at import: the setting may name a class of this very module.
    if name == "FileObject":
        global FileObject
        FileObject = config.fileobject
        return FileObject
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
