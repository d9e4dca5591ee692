"""Environments of `weald.pywsgi` that keep to themselves what must not go into logs, and logs that are loggers."""


class _NoopLog:
    def write(self, *args, **kwargs):
        pass

    flush = writelines = write


class LoggingLogAdapter:
    """Makes a logger look like a file. Any other attribute is the logger's."""

    __slots__ = ("_logger", "_level")

    def __init__(self, logger, level=20):
        self._logger = logger
        self._level = level

    def write(self, msg):
        self._logger.log(self._level, msg.removesuffix("\n") if msg else msg)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        """A logger flushes itself."""

    def __getattr__(self, name):
        return getattr(self._logger, name)

    def __setattr__(self, name, value):
        if name in LoggingLogAdapter.__slots__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._logger, name, value)

    def __delattr__(self, name):
        delattr(self._logger, name)


class Environ(dict):
    """A base for environments: copies stay of their class, and a pickle is an ordinary dict."""

    __slots__ = ()

    def copy(self):
        return self.__class__(self)

    def iteritems(self):
        return self.items()

    def __reduce_ex__(self, proto):
        return (dict, (), None, None, iter(self.items()))


class SecureEnviron(Environ):
    """An environment whose text tells nothing: it has cookies and passwords, and would go into logs.

    secure_repr switches that off. Keys in whitelist_keys are shown; the others as <MASKED>, or, with
    print_masked_keys false, counted. The class has defaults for the three, named default_...
    """

    default_secure_repr = True
    default_whitelist_keys = ()
    default_print_masked_keys = True

    __slots__ = ("secure_repr", "whitelist_keys", "print_masked_keys")

    def __getattr__(self, name):
        if name in SecureEnviron.__slots__:
            return getattr(type(self), "default_" + name)
        raise AttributeError(name)

    def __repr__(self):
        if not self.secure_repr:
            return super().__repr__()
        shown = self.whitelist_keys
        if not shown:
            return f"<pywsgi.SecureEnviron dict (keys: {len(self)}) at {id(self)}>"
        masked = self.print_masked_keys
        visible = {
            key: value if key in shown else "<MASKED>" for key, value in self.items() if masked or key in shown
        }
        hidden = len(self) - len(visible)
        return f"{repr(visible)[:-1]}, (hidden keys: {hidden})}}" if hidden else repr(visible)

    __str__ = __repr__


class WSGISecureEnviron(SecureEnviron):
    """Shows where a request came from."""

    default_whitelist_keys = ("REMOTE_ADDR", "REMOTE_PORT", "HTTP_HOST")
    default_print_masked_keys = False
