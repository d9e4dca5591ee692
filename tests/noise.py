#!/usr/bin/env python3
"""Writes the noise program: every exported function, called with bad handles, NULL pointers and wild numbers.

    tests/noise.py include/weald.h noise.c

What is done with each call is in tests/c/noise.h; this finds out from the header what can be called, and how. A function
or type that is new in the header is covered without a word here, but for two things: how to make a handle of a new kind
(KINDS), and which kinds a function takes whose parameter is a plain weald_handle (TAKES). Without them it stops and asks.
"""
import re
import sys

import weald_h

# How to make one of each kind of object, in C. The first kind that a function takes is the one it is given in good calls.
KINDS = {
    "greenlet": "weald_spawn(noise_body, NULL)",
    "coro": "weald_coro_new(noise_stub_weald_coro_fn, NULL, 0, NULL)",
    "hub": "weald_hub()",
    "iwait": "noise_iwait()",
    "io_watcher": "weald_io_watcher(noise_pipe[1], WEALD_WRITE, noise_stub_weald_watcher_fn, NULL)",
    "timer_watcher": "weald_timer_watcher(1000, 0, noise_stub_weald_watcher_fn, NULL)",
    "signal_watcher": "weald_signal_watcher(SIGUSR2, noise_stub_weald_watcher_fn, NULL)",
    "child_watcher": "weald_child_watcher(noise_child, noise_stub_weald_watcher_fn, NULL)",
    "async_watcher": "weald_async_watcher(noise_stub_weald_watcher_fn, NULL)",
    "idle_watcher": "weald_idle_watcher(noise_stub_weald_watcher_fn, NULL)",
    "prepare_watcher": "weald_prepare_watcher(noise_stub_weald_watcher_fn, NULL)",
    "check_watcher": "weald_check_watcher(noise_stub_weald_watcher_fn, NULL)",
    "stat_watcher": 'weald_stat_watcher("/", 0, noise_stub_weald_watcher_fn, NULL)',
    "event": "weald_event_new(0)",
    "result": "weald_result_new(0, NULL)",
    "queue": "weald_queue_new(0, 4, NULL)",
    "priority_queue": "weald_priority_queue_new(0, 4, noise_stub_weald_compare_fn, NULL)",
    "semaphore": "weald_semaphore_new(1)",
    "bounded_semaphore": "weald_bounded_semaphore_new(1)",
    "lock": "weald_lock_new()",
    "rlock": "weald_rlock_new()",
    "condition": "weald_condition_new()",
    "rwlock": "weald_rwlock_new()",
    "barrier": "weald_barrier_new(1)",
    "group": "weald_group_new()",
    "pool": "weald_pool_new(4)",
    "imap": "noise_imap()",
    "timeout": "weald_timeout_start(WEALD_SEC(3600))",
    "local": "weald_local_new(NULL)",
    "threadpool": "weald_threadpool_new(1)",
    "workers": "weald_workers_start(1)",
    "process": "noise_process()",
    "channel": "noise_channel()",
    "folder": 'weald_folder_read("/", WEALD_FOREVER)',
    "server": 'weald_server_new("127.0.0.1:0", noise_stub_weald_stream_handler_fn, NULL, NULL)',
    "stream": "weald_stream_new(dup(noise_pipe[0]), NULL)",
    "tls_config": "weald_tls_client(&(weald_tls_options){.size = sizeof(weald_tls_options), "
                  ".flags = WEALD_TLS_INSECURE})",
    "http_request": "noise_http_request()",
    "http_connection": "weald_http_connection_new(weald_stream_new(dup(noise_pipe[0]), NULL), NULL, NULL)",
    "websocket": "weald_websocket_new(weald_stream_new(dup(noise_pipe[0]), NULL), NULL)",
    "http_client": "weald_http_client_new(NULL)",
    "http_response": "noise_http_response()",
}

WATCHERS = [kind for kind in KINDS if kind.endswith("_watcher")]
GREENLETS = ["greenlet", "coro"]

# The kinds that a function takes, by the first pattern that its name matches.
TAKES = [
    (r"weald_(close|dup|kind)$", list(KINDS)),
    (r"weald_post$", ["hub"]),
    (r"weald_iwait_", ["iwait"]),
    (r"weald_watcher_again", ["timer_watcher"]),
    (r"weald_watcher_", WATCHERS),
    (r"weald_async_send", ["async_watcher"]),
    (r"weald_event_", ["event"]),
    (r"weald_result_", ["result"]),
    (r"weald_queue_", ["queue", "priority_queue"]),
    (r"weald_semaphore_", ["semaphore", "bounded_semaphore"]),
    (r"weald_lock_", ["lock", "rlock"]),
    (r"weald_condition_", ["condition"]),
    (r"weald_rwlock_", ["rwlock"]),
    (r"weald_barrier_", ["barrier"]),
    (r"weald_pool_", ["pool", "group"]),
    (r"weald_group_", ["group", "pool"]),
    (r"weald_imap_", ["imap"]),
    (r"weald_timeout_", ["timeout"]),
    (r"weald_local_", ["local"]),
    (r"weald_(threadpool_|offload)", ["threadpool"]),
    (r"weald_workers_", ["workers"]),
    (r"weald_process_", ["process"]),
    (r"weald_channel_", ["channel"]),
    (r"weald_folder_", ["folder"]),
    (r"weald_server_", ["server"]),
    (r"weald_stream_", ["stream"]),
    (r"weald_tls_(add_certificate|reload)", ["tls_config"]),
    (r"weald_tls_", ["stream"]),
    (r"weald_websocket_accept", ["http_request"]),
    (r"weald_websocket_new", ["stream"]),
    (r"weald_websocket_", ["websocket"]),
    (r"weald_http_(client_|fetch)", ["http_client"]),
    (r"weald_http_response_", ["http_response"]),
    (r"weald_http_connection_new", ["stream"]),
    (r"weald_http_(next|done)", ["http_connection"]),
    (r"weald_http_", ["http_request"]),
]

# Parameters that are something else than their function's first one.
TAKES_HERE = {
    ("weald_condition_wait", 1): ["lock", "rlock"],
    ("weald_spawn_options", "group"): ["group", "pool"],
    ("weald_server_options", "pool"): ["group", "pool"],
    ("weald_server_options", "tls"): ["tls_config"],
    ("weald_websocket_options", "tls"): ["tls_config"],
    ("weald_tls_connect", 1): ["tls_config"],
    ("weald_tls_accept", 1): ["tls_config"],
    ("weald_wait_item", "object"): GREENLETS + ["event", "result", "queue", "priority_queue", "semaphore",
                                               "bounded_semaphore", "lock", "rlock", "timer_watcher"],
}

# Handles in which 0 has a meaning of its own.
ZERO_IS_FINE = {("weald_coro_new", "parent"), ("weald_offload", "pool"), ("weald_threadpool_submit", "pool"),
                ("weald_threadpool_size", "pool")}

# Functions that take handles of other threads' objects.
ANY_THREAD = r"weald_(post|async_send|close|dup|kind|threadpool_\w+|workers_\w+|offload|tls_(add_certificate|reload|client|server))$"

# Functions for which a bad handle is no error, and why.
BAD_IS_FINE = {
    "weald_websocket_broadcast": "passes over handles that are none",
    "weald_websocket_new": "its config of TLS is every thread's",
}

# Functions that get no wild numbers, and why.
NUMBERS_BLOCK = {
    "weald_sleep": "sleeps as long as it is told",
    "weald_workers_start": "starts as many threads as it is told",
    "weald_run_once": "waits for the next event when told so",
}

# What goes into a number that has a name like this; 0 elsewhere.
PLAUSIBLE = [
    (r"^(fd|\w+_fd)$", "noise_pipe[0]"),
    (r"^nfds$", "1"),
    (r"^(n|count|how_many)$", "1"),
    (r"^(len|size|length|\w+_size|\w+_len)$", "sizeof noise_buffer"),
    (r"^(signo|sig)$", "SIGUSR2"),
    (r"^pid$", "noise_child"),
    (r"^(events)$", "WEALD_READ"),
    (r"^(code|reason)$", "WEALD_ECANCELED"),
    (r"^(capacity|permits|parties|max_threads|size|maxsize|ns|\w+_ns)$", "1"),
]

# Numbers that say how much memory the caller owns: a lie would be the caller's own fault.
DESCRIBES_MEMORY = r"^(n|len|length|size|nfds|\w+_size|\w+_len)$"

PREAMBLE = """/* Written by tests/noise.py from weald.h. */
#define _GNU_SOURCE
#include "noise.h"
"""


class Asks(Exception):
    """The header has something that this file must be told about."""


class Call:
    """One function: its slots, and the C text of each argument."""

    def __init__(self, function, header):
        self.function, self.header = function, header
        self.slots, self.arguments, self.before = [], [], []
        params = function.params
        for i, param in enumerate(params):
            pair = i + 1 < len(params) and params[i + 1].name in ("n", "len", "nfds")
            self.arguments.append(self._argument(i, param, pair))

    def _argument(self, i, param, has_length):
        bare = param.type.replace("const ", "").replace(" const", "").strip()
        if bare in self.header.handles:
            return self._handle(i, param, bare)
        if bare.endswith("*") or bare in self.header.callbacks or "(*" in bare:
            return self._pointer(param, bare, has_length)
        return self._number(param, bare)

    def _slot(self, name, kind, accepts=(), plausible="0"):
        self.slots.append((name, kind, accepts, plausible))
        return len(self.slots) - 1

    def _handle(self, i, param, bare):
        slot = self._slot(param.name, "HANDLE_INSIDE" if (self.function.name, param.name) in ZERO_IS_FINE else "HANDLE",
                          self._takes(i, bare))
        return f"({bare})a->value[{slot}]"

    def _takes(self, i, bare):
        name = self.function.name
        if (name, i) in TAKES_HERE:
            return TAKES_HERE[name, i]
        if bare == "weald_greenlet":
            return GREENLETS
        own = bare[len("weald_"):]
        for pattern, kinds in TAKES:
            if re.match(pattern, name):
                return kinds
        if own in KINDS:
            return [own]
        raise Asks(f"which kinds does {name} take as its argument {i + 1}? (TAKES)")

    def _number(self, param, bare):
        if param.name == "deadline":
            return "WEALD_NOW"
        plausible = next((value for pattern, value in PLAUSIBLE if re.match(pattern, param.name)), "0")
        if re.match(DESCRIBES_MEMORY, param.name) and self._follows_pointer(param):
            return f"({bare}){plausible}"
        if plausible.startswith("noise_"):  # known later than the table
            slot = self._slot(param.name, "NUMBER", plausible="MADE_LATER")
            return f"(a->value[{slot}] == MADE_LATER ? {plausible} : ({bare})a->value[{slot}])"
        slot = self._slot(param.name, "NUMBER", plausible=plausible)
        return f"({bare})a->value[{slot}]"

    def _follows_pointer(self, param):
        return any("*" in other.type and "(*" not in other.type for other in self.function.params)

    def _pointer(self, param, bare, has_length):
        slot = self._slot(param.name, "POINTER")
        return f"a->null == {slot} ? NULL : {self._target(param, bare, has_length)}"

    def _target(self, param, bare, has_length):
        pointed = bare[:-1].strip()
        is_const = "const" in param.type
        if bare in self.header.callbacks:
            return f"noise_stub_{bare}"
        if "(*" in bare:
            return self._inline_stub(param)
        if pointed in self.header.handles and (is_const or has_length and not is_const and "out" not in param.name):
            inner = self._slot(f"*{param.name}", "HANDLE", self._takes(None, pointed))
            return self._local(param.name, f"{pointed}", f"({pointed})a->value[{inner}]")
        if pointed in self.header.structs:
            return self._struct(param.name, pointed)
        if pointed == "char" and param.name == "path":
            return '"@noise"'  # a name, should it be made, that is in no file system
        if pointed in ("void", "char"):
            text = '"/nowhere/noise"' if re.match(r"weald_(file|folder)_", self.function.name) else '"noise"'
            return f"({param.type.strip()})noise_buffer" if not is_const or pointed == "void" else text
        if pointed == "void *":
            return "(void **)noise_values"
        if pointed == "int":
            return "noise_numbers"
        if pointed == "struct pollfd":
            return "&noise_polled"
        if pointed == "fd_set":
            return "&noise_set"
        return f"({param.type.strip()})(void *)noise_buffer"

    def _local(self, name, type_, value):
        self.before.append(f"    {type_} local_{name} = {value};")
        return f"&local_{name}"

    def _struct(self, name, struct):
        self.before.append(f"    {struct} local_{name};")
        self.before.append(f"    memset(&local_{name}, 0, sizeof local_{name});")
        fields = self.header.structs[struct]
        if any(field.name == "size" for field in fields):
            self.before.append(f"    local_{name}.size = sizeof local_{name};")
        for field in fields:
            if field.type in self.header.handles and (struct, field.name) in TAKES_HERE:
                inner = self._slot(f"{name}->{field.name}", "HANDLE_INSIDE", TAKES_HERE[struct, field.name])
                self.before.append(f"    local_{name}.{field.name} = ({field.type})a->value[{inner}];")
        return f"&local_{name}"

    def _inline_stub(self, param):
        """A function pointer without a name of its own: any stub will do, it is called with what it was made for."""
        returns, rest = param.type.split("(*", 1)
        name = f"noise_stub_{self.function.name}_{param.name}"
        params = weald_h.params(rest[rest.index("(") + 1:rest.rindex(")")])
        self.stub = stub(name, returns.strip(), params)
        return name

    def text(self):
        name = self.function.name
        call = f"{name}({', '.join(self.arguments)})"
        returns = self.function.returns
        if returns == "void":
            body = [f"    {call};", "    return 0;"]
        elif returns.endswith("*"):
            body = [f"    return (long long)(intptr_t){call};"]
        else:
            body = [f"    return (long long){call};"]
        lines = [f"static long long call_{name}(const struct args *a)", "{", "    (void)a;", *self.before, *body, "}"]
        return "\n".join(getattr(self, "stub", "").splitlines() + lines) + "\n"

    def entry(self):
        name = self.function.name
        slots = ", ".join(f'{{"{slot}", {kind}, {mask(accepts)}, {plausible}}}'
                          for slot, kind, accepts, plausible in self.slots) or '{"", NUMBER, 0, 0}'
        return (f'    {{"{name}", call_{name}, {result_kind(self.function, self.header)}, '
                f'{int(bool(re.match(ANY_THREAD, name)))}, {c_string(BAD_IS_FINE.get(name))}, '
                f'{c_string(NUMBERS_BLOCK.get(name))}, {len(self.slots)}, {{{slots}}}}},')


def result_kind(function, header):
    if function.returns.replace("const ", "").strip() == "char *":
        return "TEXT"
    if function.returns.endswith("*"):
        return "OBJECT"
    return "NEW_HANDLE" if function.returns in header.handles else "CODE"


def mask(kinds):
    order = list(present)
    return hex(sum(1 << order.index(kind) for kind in kinds if kind in order)) + "ull"


def c_string(text):
    return "NULL" if text is None else '"' + text.replace('"', '\\"') + '"'


def stub(name, returns, params):
    inside = ", ".join(declare(p, i) for i, p in enumerate(params)) or "void"
    lines = [f"static __attribute__((unused)) {returns} {name}({inside})", "{"]
    lines += [f"    (void)p{i};" for i in range(len(params))]
    if returns != "void":
        lines.append("    return 0;")
    return "\n".join(lines + ["}"]) + "\n"


def declare(param, i):
    if "(*" in param.type:
        return param.type.replace("(*", f"(*p{i}", 1)
    return f"{param.type} p{i}"


HELPERS = {
    "process": """static long long noise_process(void)
{
    const char *argv[] = {"true", NULL};
    return weald_process_spawn(argv, NULL);
}
""",
    "channel": """static long long noise_channel(void)
{
    weald_channel ends[2];
    int code = weald_channel_pair(ends, 0);
    return code < 0 ? code : ends[0];
}
""",
    "http_response": """static void noise_http_answer(weald_http_request r, void *user)
{
    (void)user;
    weald_http_reply(r, 200, NULL, "0123456789", 10, WEALD_FOREVER);
}
static long long noise_http_response(void)
{
    weald_server server = weald_http_server_new("127.0.0.1:0", noise_http_answer, NULL, NULL);
    char url[60];

    snprintf(url, sizeof url, "http://127.0.0.1:%d/", weald_server_port(server));
    weald_server_start(server);
    return weald_http_fetch(weald_http_client_new(NULL), url, NULL, WEALD_FOREVER);
}
""",
    "http_request": """static __thread long long noise_asked;
static void noise_http_handler(weald_http_request r, void *user)
{
    (void)user;
    noise_asked = r;
    weald_sleep(WEALD_SEC(3600));
}
static long long noise_http_request(void)
{
    weald_server server = weald_http_server_new("127.0.0.1:0", noise_http_handler, NULL, NULL);
    char address[40];
    int fd;

    noise_asked = 0;
    snprintf(address, sizeof address, "127.0.0.1:%d", weald_server_port(server));
    weald_server_start(server);
    fd = weald_tcp_connect(address, WEALD_FOREVER);
    weald_write_all(fd, "GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", 27, NULL, WEALD_FOREVER);
    while (noise_asked == 0)
        weald_sleep(WEALD_MS(1));
    return noise_asked;
}
""",
    "iwait": """static long long noise_iwait(void)
{
    weald_greenlet g = weald_spawn(noise_body, NULL);
    return weald_iwait(&g, 1);
}
""",
    "imap": """static long long noise_imap(void)
{
    return weald_group_imap(weald_pool_new(1), noise_stub_weald_map_fn, NULL, noise_stub_weald_next_fn, NULL, 1);
}
""",
}

present = {}


def write(header):
    names = {function.name for function in header.functions}
    for kind, maker in KINDS.items():
        if set(re.findall(r"weald_\w+(?=\()", maker + HELPERS.get(kind, ""))) <= names:
            present[kind] = maker
    calls = [Call(function, header) for function in header.functions]
    _ask_about_makers(calls, header)
    parts = [PREAMBLE]
    parts += [stub(f"noise_stub_{name}", returns, params) for name, (returns, params) in header.callbacks.items()]
    parts += [HELPERS[kind] for kind in present if kind in HELPERS]
    parts += [f"static long long make_{kind}(void) {{ return {maker}; }}\n" for kind, maker in present.items()]
    parts += [call.text() for call in calls]
    parts.append("const struct kind kinds[] = {\n" +
                 "\n".join(f'    {{"{kind}", make_{kind}}},' for kind in present) + "\n};")
    parts.append(f"const int kind_count = {len(present)};\n")
    parts.append("const struct function functions[] = {\n" + "\n".join(call.entry() for call in calls) +
                 '\n    {NULL, NULL, CODE, 0, NULL, NULL, 0, {{"", NUMBER, 0, 0}}},\n};\n')
    return "\n".join(parts)


# Functions that give a handle of a kind that another maker stands for, or one that exists already.
NOT_MAKERS = {"weald_spawn_with", "weald_greenlet_new", "weald_group_spawn", "weald_pool_try_spawn", "weald_self",
              "weald_parent", "weald_current", "weald_main", "weald_dup", "weald_group_imap_unordered",
              "weald_group_apply_async", "weald_threadpool_submit", "weald_iwait", "weald_group_imap",
              "weald_process_spawn", "weald_process_fork", "weald_popen", "weald_channel_open", "weald_server_from_fd",
              "weald_datagram_server_new", "weald_datagram_server_from_fd", "weald_http_server_new",
              "weald_http_server_from_fd", "weald_http_upgrade", "weald_http_fetch", "weald_stream_server_new",
              "weald_stream_server_from_fd", "weald_tls_server", "weald_websocket_accept", "weald_websocket_connect",
              "weald_stream_over", "weald_http_next"}


def _ask_about_makers(calls, header):
    made = set(re.findall(r"weald_\w+(?=\()", " ".join(KINDS.values()))) | NOT_MAKERS
    for call in calls:
        if call.function.returns in header.handles and call.function.name not in made:
            raise Asks(f"{call.function.name} makes handles of a kind that KINDS does not have")


def main():
    try:
        text = write(weald_h.read(sys.argv[1]))
    except Asks as question:
        sys.exit(f"tests/noise.py: {question}")
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(text)


if __name__ == "__main__":
    main()
