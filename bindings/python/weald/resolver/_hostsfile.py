"""Reading /etc/hosts, anew when it has changed."""
import ipaddress
import os


class HostsFile:
    """Maps of the file: v4 and v6 by name, aliases to the first name of their line, and reverse by pointer name."""

    def __init__(self, fname=None):
        self.fname = "/etc/hosts" if fname is None else fname
        self.v4, self.v6, self.aliases, self.reverse = {}, {}, {}, {}
        self._last_load = 0

    def _readlines(self):
        with open(self.fname, "rb") as file:
            text = file.read().decode(errors="ignore")
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return [line for line in lines if line]

    def load(self):
        try:
            changed = os.stat(self.fname).st_mtime
        except OSError as problem:
            from weald.hub import get_hub

            get_hub().handle_error(self, type(problem), problem, problem.__traceback__)
            return
        if changed <= self._last_load:
            return
        v4, v6, aliases, reverse = {}, {}, {}, {}
        for line in self._readlines():
            text, *names = line.split()
            try:
                address = ipaddress.ip_address(text)
            except ValueError:
                continue
            if not names or address.is_link_local:
                continue
            names = [name.lower() for name in names]
            by_name = v4 if address.version == 4 else v6
            for name in names:
                by_name[name] = text
            for alias in names[1:]:
                aliases[alias] = names[0]
            reverse.setdefault(address.reverse_pointer, names[0])
        self._last_load = changed
        self.v4, self.v6, self.aliases, self.reverse = v4, v6, aliases, reverse

    def iter_all_host_addr_pairs(self):
        self.load()
        yield from self.v4.items()
        yield from self.v6.items()
