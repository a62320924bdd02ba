"""Shapes of requests in which one reader may see another request's end, or another request.

Each is raw bytes that hold, where only some readers would look for it, a second request, for
`SECOND`; the first is for another path or a bundle. Tables only: `tests.whole.test_smuggling`
sends them.
"""

SECOND = b"/second"

_SECOND = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
_ENDED = b"0\r\n\r\n" + _SECOND
_POST = b"POST /?bundle HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
_GET = b"GET /first HTTP/1.1\r\nHost: a\r\n"


def _chunk(data: bytes, line: bytes = b"%x\r\n", end: bytes = b"\r\n") -> bytes:
    return line.replace(b"%x", b"%x" % len(data)) + data + end


def _both(encoding: bytes, *, length: int = len(_ENDED), body: bytes = _ENDED) -> bytes:
    """Give a request with both a length and lines that may be a Transfer-Encoding."""
    return _POST + b"Content-Length: %d\r\n%s\r\n\r\n" % (length, encoding) + body


def _told(lines: bytes, body: bytes = _SECOND) -> bytes:
    return _POST + lines + b"\r\n\r\n" + body


def _in_chunks(body: bytes) -> bytes:
    return _POST + b"Transfer-Encoding: chunked\r\n\r\n" + body


def _odd(line: bytes) -> bytes:
    """Give a request with an odd header, whose body would be the second request."""
    return _POST + line + b"\r\nContent-Length: %d\r\n\r\n" % len(_SECOND) + _SECOND


_N = b"%d" % len(_SECOND)
_CL, _TE = b"Content-Length: ", b"Transfer-Encoding: "

BOTH = {
    "CL and TE": _both(_TE + b"chunked"),
    "TE and a short CL": _both(_TE + b"chunked", length=4, body=_chunk(_SECOND) + b"0\r\n\r\n"),
    "TE before CL": _told(_TE + b"chunked\r\n" + _CL + b"%d" % len(_ENDED), _ENDED),
    **{
        f"CL and {encoding!r}": _both(encoding)
        for encoding in [
            *(_TE + b"xchunked", _TE + b"chunkedx", _TE + b" chunked", _TE + b"\tchunked"),
            *(_TE + b"chunked ", _TE + b"chunked\t", _TE + b"\x0bchunked", _TE + b"chunked\x0b"),
            *(_TE + b"\x0cchunked", _TE + b"\xa0chunked", _TE + b"chunked\0", _TE + b"\0chunked"),
            *(_TE + b"Chunked", _TE + b"cHuNkEd", _TE + b'"chunked"', _TE + b"'chunked'"),
            *(_TE + b"chunked, identity", _TE + b"identity", _TE + b"identity, chunked"),
            *(_TE + b"gzip, chunked", _TE + b"chunked, chunked", _TE + b"chunked;a=b", _TE),
            *(_TE + b",chunked", _TE + b"chunked,", _TE + b"chun\r\n ked", _TE + b"cow"),
            *(_TE + b"chunked\r\n" + _TE + b"x", _TE + b"x\r\n" + _TE + b"chunked"),
            *(_TE + b"chunked\r\n" + _TE + b"identity", _TE + b"identity\r\n" + _TE + b"chunked"),
            *(b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked"),
            *(b"Transfer-Encoding:chunked", b"TRANSFER-ENCODING: chunked"),
            *(b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\n chunked"),
            *(b" Transfer-Encoding: chunked", b"\tTransfer-Encoding: chunked"),
            *(b"X: y\r\n Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked"),
            *(b"X: y\rTransfer-Encoding: chunked", b"\rTransfer-Encoding: chunked"),
            b"Transfer-Encoding\0: chunked",
            *(b"Transfer-Encoding\xa0: chunked", b"\0Transfer-Encoding: chunked"),
            b"Transfer-Encoding: chunked\r\nConnection: Content-Length",
            b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
        ]
    },
}

LENGTHS = {
    f"{lines!r}": _told(lines)
    for lines in [
        *(_CL + b"0\r\n" + _CL + _N, _CL + _N + b"\r\n" + _CL + b"0"),
        *(_CL + _N + b"\r\n" + _CL + _N, _CL + _N + b", " + _N, _CL + b"0, " + _N),
        *(_CL + _N + b",0", _CL + b"+" + _N, _CL + b"-1", _CL + b"-0", _CL + b"0x" + b"2b"),
        *(_CL + _N + b".0", _CL + b"1e1", _CL + b"4_3", _CL + _N + b";", _CL + b'"' + _N + b'"'),
        *(_CL + b" " + _N, _CL + _N + b" ", _CL + b"000" + _N, _CL + b"\x0b" + _N, _CL + b"4 3"),
        *(_CL + "\uff14\uff13".encode(), _CL + b"\xb2", _CL + b"99999999999999999999999"),
        *(_CL + b"18446744073709551616", _CL + b"9223372036854775807", _CL + b"4294967296"),
        *(b"Content-Length : " + _N, b"Content-Length\t: " + _N, b"Content_Length: " + _N),
        *(b" Content-Length: " + _N, b"Content-Length:\r\n " + _N, _CL + b"0\r\n " + _N),
        *(_CL + b"4\r\n 3", _CL + b"0\r\n\t" + _N, _CL + _N + b"\0", _CL + b"\0" + _N),
        *(b"X: y\n" + _CL + _N, b"X: y\r" + _CL + _N, b"Content-Length\0: " + _N),
        *(_CL + _N + b"\r\nConnection: Content-Length", _CL + b"0\n" + _CL + _N),
    ]
}

CHUNKS = {
    f"{body!r}"[:60]: _in_chunks(body)
    for body in [
        *(_chunk(_SECOND, line) + b"0\r\n\r\n" for line in [b"+%x\r\n", b"-%x\r\n", b"0x%x\r\n"]),
        *(_chunk(_SECOND, line) + b"0\r\n\r\n" for line in [b"%x \r\n", b" %x\r\n", b"\t%x\r\n"]),
        *(
            _chunk(_SECOND, line) + b"0\r\n\r\n"
            for line in [b"%x;\r\n", b"%x;a\r\n", b"%x;a=b\r\n"]
        ),
        *(_chunk(_SECOND, line) + b"0\r\n\r\n" for line in [b'%x;a="b\r\n"\r\n', b"%x;a\nb\r\n"]),
        *(
            _chunk(_SECOND, line) + b"0\r\n\r\n"
            for line in [b"%x;a\rb\r\n", b"%x;\0\r\n", b"%x,\r\n"]
        ),
        *(
            _chunk(_SECOND, line) + b"0\r\n\r\n"
            for line in [b"%x\n", b"%x\r", b"%x\r\r\n", b"%x\0\r\n"]
        ),
        *(
            _chunk(_SECOND, line) + b"0\r\n\r\n"
            for line in [b"%xg\r\n", b"%x_0\r\n", b"%xh\r\n", b"\r\n"]
        ),
        *(
            _chunk(_SECOND, line) + b"0\r\n\r\n"
            for line in [b"0000000000000000000%x\r\n", b"\r\n%x\r\n"]
        ),
        *(
            _chunk(b"x" * 5 + _SECOND, line) + b"0\r\n\r\n"
            for line in [b"5\r\n", b"5;%x\r\n", b"5\n"]
        ),
        *(b"fffffffffffffffff\r\n" + _SECOND, b"10000000000000000\r\n" + _SECOND),
        *(b"ffffffffffffffff\r\n" + _SECOND, b"7fffffffffffffff\r\n" + _SECOND),
        *(b"100000000\r\n" + _SECOND, b"-1\r\n" + _SECOND, b"zz\r\n" + _SECOND, b"\r\n" + _SECOND),
        *(_chunk(b"bundle=p", end=b"") + _ENDED, _chunk(b"bundle=p", end=b"xx") + _ENDED),
        *(_chunk(b"bundle=p", end=b"\n") + _ENDED, _chunk(b"bundle=p", end=b"\r") + _ENDED),
        *(b"0\r\n" + _SECOND, b"0\r\nX: y\r\n" + _SECOND, b"0\n" + _SECOND, b"0" + _SECOND),
        *(b"0\r\n\n" + _SECOND, b"0\n\n" + _SECOND, b"0\r\r" + _SECOND, b"0;a\n\n" + _SECOND),
        *(b"0\r\nX: y\n\n" + _SECOND, b"0\r\nContent-Length: 9\n\r\n" + _SECOND),
    ]
}

HEADERS = {
    **{
        f"{line!r}"[:60]: _odd(line)
        for line in [
            *(b"X : y", b"X\t: y", b"X y", b"X", b": y", b"", b" X: y", b"\tX: y", b"X: a\r\n b"),
            *(b"X: a\0b", b"X\0: y", b"X: \0", b"X: a\x01b", b"X: a\x7fb", b"X: a\rb", b"X: a\nb"),
            *(b"X: a\n\nb", b"X(y): z", b"X/y: z", b'X"y: z', b"X\xe9: z", b"X: \xe9", b"X: \xff"),
            *(b"Host: b", b"Host: a", b"host: evil.test", b"Host: a, b", b"Host: a b", b"Host:"),
            *(b"Host: evil.test:80@a", b"Host: a/../", b"Host: http://a/", b"Expect: 100-continue"),
            *(b"Expect: x", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings", b"TE: chunked"),
            *(b"Upgrade: websocket\r\nConnection: Upgrade", b"Connection: Host", b"Trailer: X"),
            *(b"Transfer_Encoding: chunked", b"X-Transfer-Encoding: chunked"),
            *(b"Te: chunked", b"Content-Encoding: chunked"),
            *(b"X-HTTP-Method-Override: GET", b"SCRIPT_NAME: /x", b"SCRIPT-NAME: /x"),
            *(b"PATH_INFO: /second", b"X-Original-URL: /second", b"X-Rewrite-URL: /second"),
            *(b"X-Forwarded-Prefix: /second", b"X: " + b"a" * 9000, b"\r\n".join([b"X: y"] * 200)),
        ]
        if line
    },
    "an end of headers by LF alone": _GET + b"X: y\n\n" + _SECOND,
    "an end of headers by LF and CRLF": _GET + b"X: y\n\r\n" + _SECOND,
    "an end of headers by two CRs": _GET + b"X: y\r\r" + _SECOND,
    "LF within a value": _GET + b"X: y\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL behind the headers": _GET + b"\0\r\n\r\n" + _SECOND,
}

LINES = {
    f"{line!r}"[:60]: line + b"\r\nHost: a\r\nContent-Length: " + _N + b"\r\n\r\n" + _SECOND
    for line in [
        *(b"GET /first", b"GET /first HTTP/0.9", b"GET /first HTTP/1.2", b"GET /first HTTP/2.0"),
        *(b"GET /first HTTP/1.1 ", b"GET  /first HTTP/1.1", b"GET\t/first\tHTTP/1.1"),
        *(
            b" GET /first HTTP/1.1",
            b"GET /first http/1.1",
            b"GET /first HTTP/1.1\0",
            b"G\0T / HTTP/1.1",
        ),
        *(b"GET /first HTTP/1.1 HTTP/1.1", b"GET /first HTTP/1.10", b"GET /first HTTP/11"),
        *(b"get /first HTTP/1.1", b"G(T /first HTTP/1.1", b"FOO /first HTTP/1.1", b"GET"),
        *(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /first HTTP/1.1", b"PRI * HTTP/2.0"),
        *(b"GET /first\0 HTTP/1.1", b"GET /first\x0b HTTP/1.1", b"GET /fi rst HTTP/1.1"),
        *(b"GET /first\n HTTP/1.1", b"GET /first HTTP/1.1\nX: y", b"GET /first\rX HTTP/1.1"),
        *(b"\xffGET /first HTTP/1.1", b"GET /first\xff HTTP/1.1", b"TRACE /first HTTP/1.1"),
        *(b"CONNECT a:80 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"HEAD /first HTTP/1.1"),
        *(b"GET /first HTTP/1.1", b"DELETE /first HTTP/1.1", b"PUT /?bundle=p HTTP/1.1"),
        # Targets of other forms, and of other places.
        *(b"GET http://evil.test/first HTTP/1.1", b"GET http://a/?bundle=p HTTP/1.1"),
        *(b"GET //evil.test/first HTTP/1.1", b"GET ///first HTTP/1.1", b"GET first HTTP/1.1"),
        *(b"GET http://evil.test HTTP/1.1", b"GET https://u:p@evil.test:1/first HTTP/1.1"),
        *(b"GET http://a/../../first HTTP/1.1", b"GET file:///etc/passwd HTTP/1.1"),
        *(b"GET * HTTP/1.1", b"GET ? HTTP/1.1", b"GET ?bundle=p HTTP/1.1", b"GET # HTTP/1.1"),
        *(b"GET /first#x HTTP/1.1", b"GET /first?x#y HTTP/1.1", b"GET /first/../.. HTTP/1.1"),
        *(
            b"GET @evil.test/first HTTP/1.1",
            b"GET :80/first HTTP/1.1",
            b"GET evil.test:80 HTTP/1.1",
        ),
        *(b"GET /\\evil.test/first HTTP/1.1", b"GET /%2e%2e/first HTTP/1.1", b"GET /%00 HTTP/1.1"),
        *(b"GET /%2E%2E%2Ffirst HTTP/1.1", b"GET /%252e%252e/first HTTP/1.1", b"GET /%ff HTTP/1.1"),
        *(b"GET http:///first HTTP/1.1", b"GET http:first HTTP/1.1", b"GET http://[::1 HTTP/1.1"),
        # A body that nobody reads.
        *(b"GET /?bundle=p HTTP/1.1", b"HEAD /?bundle=p HTTP/1.1", b"POST /?bundle HTTP/1.1"),
        *(b"GET /?bundle=../p HTTP/1.1", b"POST /first HTTP/1.1", b"GET /../first HTTP/1.1"),
    ]
}

SHAPES = {
    f"{kind}: {name}": shape
    for kind, table in {
        "both": BOTH,
        "length": LENGTHS,
        "chunk": CHUNKS,
        "header": HEADERS,
        "line": LINES,
    }.items()
    for name, shape in table.items()
}

# Where there is no body by anybody's rules, so that the second request is one in its own right.
PIPELINED = {f"length: {b'Content_Length: ' + _N!r}"}
