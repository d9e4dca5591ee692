"""Requests drawn at random, and what h11 and httptools make of them: what is taken here is understood there alike."""

import random

SEEDS = [
    b"GET / HTTP/1.1\r\nHost: oak\r\n\r\n",
    b"GET /a?b HTTP/1.0\r\nHost: oak\r\nConnection: close\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: oak\r\nContent-Length: 5\r\nContent-Type: a/b\r\n\r\nhello",
    b"POST /p HTTP/1.1\r\nHost: oak\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n3;a=b\r\nabc\r\n0\r\nT: u\r\n\r\n",
    b"PUT http://oak/x HTTP/1.1\r\nHost: oak\r\nX-Y: a, b\r\nx-y: c\r\nContent-Length: 0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nAccept: */*\r\nEmpty:\r\n\r\n",
]
PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"a",
    b"+",
    b"-",
    b"_",
    b"%",
    b"#",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: elm\r\n",
    b"0\r\n\r\n",
    b" HTTP/1.1",
    b"chunked",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
]


def drawn(seed, count):
    """Seeds with one to four changes each."""
    draw = random.Random(seed)
    for _ in range(count):
        request = bytearray(draw.choice(SEEDS))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(request) + 1)
            what = draw.randrange(4)
            if what == 0:
                request[at:at] = draw.choice(PIECES)
            elif what == 1:
                del request[at : at + draw.randint(1, 4)]
            elif what == 2 and at < len(request):
                request[at] = draw.randrange(256)
            else:
                other = draw.choice(SEEDS)
                begin = draw.randrange(len(other))
                request[at:at] = other[begin : begin + draw.randint(1, 20)]
        yield bytes(request)


def by_h11(h11, request):
    """The first request as h11 reads it, or None."""
    reader = h11.Connection(h11.SERVER)
    try:
        reader.receive_data(request)
        event = reader.next_event()
        if not isinstance(event, h11.Request):
            return None
        found = {
            "method": event.method,
            "target": event.target,
            "version": event.http_version,
            "body": b"",
            "headers": [(name.lower(), value) for name, value in event.headers],
        }
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Data):
                found["body"] += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return found
            else:
                return None
    except h11.RemoteProtocolError:
        return None


def response_by_h11(h11, method, target, got):
    """The statuses of the responses in what came back to requests like these, or what is wrong with them."""
    reader, statuses = h11.Connection(h11.CLIENT), []
    try:
        reader.receive_data(got)
        while True:
            reader.send(h11.Request(method=method, target=target, headers=[("Host", "oak")]))
            reader.send(h11.EndOfMessage())
            while not isinstance(event := reader.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Response):
                    statuses.append(event.status_code)
                elif not isinstance(event, h11.Data):
                    return f"{statuses}, then {event}"
            reader.start_next_cycle()
            if not reader.trailing_data[0]:
                return statuses
    except h11.ProtocolError as wrong:
        return f"{statuses}, then {wrong!r}"


class _Read:
    def __init__(self):
        self.target, self.body, self.headers, self.done = b"", b"", [], False

    def on_url(self, url):
        if not self.done:
            self.target += url

    def on_header(self, name, value):
        if not self.done:
            self.headers.append((name.lower(), value))

    def on_body(self, body):
        if not self.done:
            self.body += body

    def on_message_complete(self):
        self.done = True


def by_httptools(httptools, request):
    read = _Read()
    reader = httptools.HttpRequestParser(read)
    try:
        reader.feed_data(request)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        if not read.done:
            return None
    if not read.done:
        return None
    return {"target": read.target, "body": read.body, "headers": read.headers}


def same(ours, theirs):
    """Whether both have understood the same; trailers are nobody's headers."""
    headers = [(name.lower(), value) for name, value in ours["headers"]]
    theirs_headers = [(name, value.strip(b" \t")) for name, value in theirs["headers"]][: len(headers)]
    return (
        all(ours[key] == theirs[key] for key in ("method", "target", "version", "body") if key in theirs)
        and headers == theirs_headers
    )
