"""Requests by which a second one has been smuggled past somebody: what one takes for a body, another takes for a request.
Each is followed by a request for /smuggled that belongs to it."""

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: oak\r\n\r\n"


def _post(*headers, version=b"1.1"):
    return b"POST / HTTP/" + version + b"\r\nHost: oak\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


_N = str(len(HIDDEN)).encode()
_CL, _TE = b"Content-Length: " + _N, b"Transfer-Encoding: chunked"
_LAST = b"0\r\n\r\n"

VECTORS = {
    "length and chunks": _post(b"Content-Length: 5", _TE) + _LAST + HIDDEN,
    "chunks and length": _post(_TE, b"Content-Length: 5") + _LAST + HIDDEN,
    "two lengths": _post(_CL, b"Content-Length: 0") + HIDDEN,
    "a list of lengths": _post(b"Content-Length: 0, " + _N) + HIDDEN,
    "a length with a sign": _post(b"Content-Length: +" + _N) + HIDDEN,
    "a length with a space in it": _post(b"Content-Length: 0 " + _N) + HIDDEN,
    "a length in hexadecimal": _post(b"Content-Length: 0x" + _N) + HIDDEN,
    "a length with an underscore": _post(b"Content-Length: 1_0") + HIDDEN,
    "a length behind a vertical tab": _post(b"Content-Length:\x0b" + _N) + HIDDEN,
    "a space before the colon": _post(b"Content-Length : " + _N) + HIDDEN,
    "a tab before the colon": _post(b"Transfer-Encoding\t: chunked", _CL) + _LAST + HIDDEN,
    "an underscore for a hyphen": _post(b"Transfer_Encoding: chunked", b"Content-Length: 5") + _LAST + HIDDEN,
    "a length that is folded": _post(b"Content-Length:\r\n " + _N) + HIDDEN,
    "a coding that is folded": _post(b"Transfer-Encoding:\r\n chunked", _CL) + _LAST + HIDDEN,
    "a coding twice": _post(_TE, _TE) + _LAST + HIDDEN,
    "another coding first": _post(b"Transfer-Encoding: identity, chunked") + _LAST + HIDDEN,
    "another coding last": _post(b"Transfer-Encoding: chunked, identity") + _LAST + HIDDEN,
    "an unknown coding": _post(b"Transfer-Encoding: xchunked", _CL) + HIDDEN,
    "a coding in quotes": _post(b'Transfer-Encoding: "chunked"', _CL) + HIDDEN,
    "a coding behind a control character": _post(b"Transfer-Encoding:\x01chunked", _CL) + HIDDEN,
    "a coding before a NUL": _post(b"Transfer-Encoding: chunked\0", _CL) + HIDDEN,
    "chunks in HTTP/1.0": _post(_TE, version=b"1.0") + _LAST + HIDDEN,
    "a line that ends with LF": b"POST / HTTP/1.1\r\nHost: oak\r\nA: b\n" + _CL + b"\r\n\r\n" + HIDDEN,
    "a line that ends with CR": b"POST / HTTP/1.1\r\nHost: oak\r\nA: b\r" + _CL + b"\r\n\r\n" + HIDDEN,
    "a head that ends with LF": b"POST / HTTP/1.1\r\nHost: oak\r\n\n" + HIDDEN,
    "two hosts": b"GET / HTTP/1.1\r\nHost: oak\r\nHost: elm\r\n\r\n" + HIDDEN,
    "a space before the first header": b"GET / HTTP/1.1\r\n Host: oak\r\n\r\n" + HIDDEN,
    "a NUL in a name": _post(b"Content-Length\0: " + _N) + HIDDEN,
    "a chunk's size with a sign": _post(_TE) + b"+0\r\n\r\n" + HIDDEN,
    "a chunk's size with 0x": _post(_TE) + b"0x0\r\n\r\n" + HIDDEN,
    "a chunk's size behind a space": _post(_TE) + b" 0\r\n\r\n" + HIDDEN,
    "a chunk's size before a space": _post(_TE) + b"0 \r\n\r\n" + HIDDEN,
    "a chunk's size with an underscore": _post(_TE) + b"0_0\r\n\r\n" + HIDDEN,
    "a chunk's size that wraps": _post(_TE) + b"10000000000000000\r\n\r\n" + HIDDEN,
    "a chunk's size that ends with LF": _post(_TE) + b"0\n\r\n" + HIDDEN,
    "a chunk's size that ends with CR": _post(_TE) + b"0\r\r\n\r\n" + HIDDEN,
    "an extension that ends with LF": _post(_TE) + b"5;a\nhello\r\n" + _LAST + HIDDEN,
    "an extension with CR in it": _post(_TE) + b"5;a\rb\r\nhello\r\n" + _LAST + HIDDEN,
    "a chunk that ends with LF": _post(_TE) + b"5\r\nhello\n" + _LAST + HIDDEN,
    "a chunk with a byte too many": _post(_TE) + b"5\r\nhello!\r\n" + _LAST + HIDDEN,
    "a chunk that ends with two other bytes": _post(_TE) + b"5\r\nhelloXX" + _LAST + HIDDEN,
    "an end that ends with LF": _post(_TE) + b"0\r\n\n" + HIDDEN,
    "a trailer that frames": _post(_TE) + b"0\r\n" + _CL + b"\r\n\r\n" + HIDDEN,
    "a trailer that ends with LF": _post(_TE) + b"0\r\nA: b\n\r\n" + HIDDEN,
    "a trailer without a colon": _post(_TE) + b"0\r\nGET /smuggled HTTP/1.1\r\nHost: oak\r\n\r\n",
    "a version that is none": _post(_CL, version=b"1.1x") + HIDDEN,
    "an old version": b"GET /\r\n" + HIDDEN,
    "an expectation that is none": _post(b"Expect: 100-continued", _CL) + HIDDEN,
    "a target with a space": b"GET / x HTTP/1.1\r\nHost: oak\r\n\r\n" + HIDDEN,
}

# In these the second request is one, by the rules: a header with an underscore frames nothing, and five bytes are a body.
HONEST = {"an underscore for a hyphen"}
