"""What may come in on a socket and is no request, or not the one it seems to be."""

import random
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

CLIENT_FAULT: Final = frozenset({"400", "404", "405", "408", "411", "413", "414", "422", "431", "closed"})
"""What it may be answered with; ``closed`` without an answer."""

_SLATE = b'{"user_id":"u1","k":3}'
_SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class Input(NamedTuple):
    """Bytes for one connection."""

    name: str
    payload: bytes
    allowed: frozenset[str] = CLIENT_FAULT


def hostile_inputs(rng: random.Random, *, run_s: float) -> Iterator[Input]:
    """Yield what a person thought of, then bytes drawn at random, for so many seconds.

    Args:
        rng: Decides the bytes.
        run_s: Seconds of random ones.
    """
    yield from written()
    until = time.monotonic() + run_s
    good = _request(_SLATE)
    while time.monotonic() < until:
        yield Input("random bytes", rng.randbytes(rng.randrange(1, 2_000)))
        broken = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        # it may still be a good request, or one that is another
        yield Input("a request with bytes changed", bytes(broken), CLIENT_FAULT | {"200", "503"})
        yield Input("a request cut off", good[: rng.randrange(1, len(good))])


def written() -> Iterator[Input]:
    """Yield inputs with names."""
    nested = 10_000
    yield Input("nothing", b"", frozenset({"closed"}))
    yield Input("zeros", bytes(1_000))
    yield Input("TLS where none is", bytes.fromhex("160301020001") + bytes(600))
    yield Input("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n")
    yield Input("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield Input("HTTP/0.9", b"GET /\r\n")
    yield Input("a version that is none", b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n")
    yield Input("a long path", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    yield Input("a long header", b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n")
    yield Input("a header that does not end", b"GET /healthz HTTP/1.1\r\nx: " + b"a" * 1_000_000)
    yield Input("many headers", b"GET /healthz HTTP/1.1\r\n" + b"x: y\r\n" * 100_000 + b"\r\n")
    yield Input("a header with a zero", b"GET /healthz HTTP/1.1\r\nx\0y: z\r\n\r\n")
    yield Input("a body that is too long", _head(b"content-length: 99999999999999\r\n") + b"x")
    yield Input("a length below zero", _head(b"content-length: -1\r\n") + _SLATE)
    yield Input("a length that is none", _head(b"content-length: 0x10\r\n") + _SLATE)
    yield Input("a length beyond 64 bits", _head(b"content-length: " + b"9" * 40 + b"\r\n"))
    yield Input("half a body", _head(b"content-length: 1000\r\n") + _SLATE)
    yield Input("pieces of no length", _head(b"transfer-encoding: chunked\r\n") + b"zz\r\n")
    yield Input("a piece that is too long", _head(b"transfer-encoding: chunked\r\n") + b"ffffffffffffffff\r\nx")
    yield Input("deep JSON", _request(b'{"user_id":' * nested + b"1" + b"}" * nested))
    yield Input("deep lists", _request(b"[" * 30_000 + b"]" * 30_000))
    yield Input("deep events", _request(b'[{"context":' * nested + b"1" + b"}]" * nested, path=b"/v1/events"))
    yield Input("half of a character", _request(b'{"user_id":"\xed\xa0\x80"}'))
    yield Input("no number", _request(b'{"user_id":"u1","k":NaN}'))
    yield Input("a number with many digits", _request(b'{"user_id":"u1","k":' + b"9" * 60_000 + b"}"))
    # two lengths, of which proxies may believe another than we do: the second request must not be answered
    length, chunked = b"content-length: %d\r\n", b"transfer-encoding: chunked\r\n"
    smuggled = b"0\r\n\r\n" + _SMUGGLED
    yield Input("length and pieces", _head(length % len(smuggled) + chunked) + smuggled)
    yield Input("pieces and length", _head(chunked + length % len(smuggled)) + smuggled)
    yield Input("two lengths", _head(length % 0 + length % len(_SMUGGLED)) + _SMUGGLED)
    yield Input("pieces that are none", _head(b"transfer-encoding: xchunked\r\n") + smuggled)
    yield Input("pieces with a tab", _head(b"transfer-encoding:\tchunked, identity\r\n") + smuggled)
    yield Input("a space before the colon", _head(b"content-length : %d\r\n" % len(_SMUGGLED)) + _SMUGGLED)
    yield Input("a header on two lines", _head(b"x: y\r\n content-length: 5\r\n") + smuggled)
    yield Input("lines without returns", b"GET /healthz HTTP/1.1\nhost: x\n\n" + b"\0")


def _head(headers: bytes) -> bytes:
    return b"POST /v1/recommendations HTTP/1.1\r\nhost: x\r\n" + headers + b"\r\n"


def _request(body: bytes, *, path: bytes = b"/v1/recommendations") -> bytes:
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path, len(body), body)
