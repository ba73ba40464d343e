"""Bytes of one connection to requests, and no more of them than a request may have."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

import httptools

from serving.http.messages import Answer, Request, problem

_MAX_HEAD_BYTES: Final = 64 << 10
_MAX_TARGET_BYTES: Final = 8 << 10
_TOO_MUCH_HEAD: Final = problem(431, f"the headers have more than {_MAX_HEAD_BYTES} bytes")
_NOT_HTTP: Final = problem(400, "this is not HTTP/1.1")
_NO_TRAILERS: Final = problem(400, "headers after the body are not taken")

LimitOf = Callable[[bytes, Mapping[bytes, bytes]], int]
"""Path and headers to the most bytes the body may have."""


class Arrived(NamedTuple):
    """A request that is whole."""

    request: Request
    keep_alive: bool
    """Whether the connection may go on after it"""


class RequestReader:
    """Reads the requests of one connection.

    Args:
        client: Address and port of the other end.
        limit_of: How long a body may be.
        on_expected: Called when the other end asks whether to go on with the body.
    """

    def __init__(self, *, client: tuple[str, int], limit_of: LimitOf, on_expected: Callable[[], None]) -> None:
        self._client = client
        self._limit_of = limit_of
        self._on_expected = on_expected
        self._parser = httptools.HttpRequestParser(self)
        self._arrived: list[Arrived] = []
        self._aside = 0
        self.is_reading = False
        """Whether a request has begun and not yet arrived whole"""
        self._begin()

    def feed(self, data: bytes) -> tuple[list[Arrived], Answer | None]:
        """Take bytes in.

        Returns:
            Requests that are whole now, and, if what follows cannot be one, how it is refused; then nothing more is to
            be fed.
        """
        self._aside += len(data)
        refusal: Answer | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # whoever offers another protocol is answered in this one, and the connection ends
        except httptools.HttpParserCallbackError as error:
            refusal = error.__context__.answer if isinstance(error.__context__, _Refused) else _NOT_HTTP
        except httptools.HttpParserError:
            refusal = _NOT_HTTP
        else:
            # one line, one header or one trailer that does not end: the parser keeps it, and tells nobody
            allowed = _MAX_HEAD_BYTES if self._in_head else _MAX_HEAD_BYTES + len(data)
            refusal = _TOO_MUCH_HEAD if self.is_reading and self._aside > allowed else None
        arrived, self._arrived = self._arrived, []
        return arrived, refusal

    # What the parser says.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self.is_reading = True

    def on_url(self, url: bytes) -> None:
        """Its target, perhaps in pieces."""
        self._target += url
        if len(self._target) > _MAX_TARGET_BYTES:
            raise _Refused(problem(414, f"the path has more than {_MAX_TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or, after the body, one trailer: that could say what headers before it said otherwise."""
        if not self._in_head:
            raise _Refused(_NO_TRAILERS)
        self._header_bytes += len(name) + len(value) + len(b": \r\n")
        if self._header_bytes > _MAX_HEAD_BYTES:
            raise _Refused(_TOO_MUCH_HEAD)
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        """All of its head: what is too long need not be read."""
        self._in_head = False
        self._aside = 0
        path, _, _ = self._target.partition(b"?")
        self._limit = self._limit_of(path, self._headers)
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            raise _Refused(problem(413, f"the body has {int(length)} bytes, at most {self._limit} are allowed"))
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self._on_expected()

    def on_chunk_header(self) -> None:
        """A piece of the body is announced."""
        self._aside = 0

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._aside = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._limit:
            raise _Refused(problem(413, f"the body has more than the {self._limit} bytes that are allowed"))
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        path, _, query = self._target.partition(b"?")
        request = Request(
            method=self._parser.get_method().decode("ascii", "replace"),
            path=unquote(path.decode("ascii", "replace")) if b"%" in path else path.decode("ascii", "replace"),
            query=query,
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            client=self._client,
            raw_path=path,
        )
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade()
        self._arrived.append(Arrived(request, keep_alive))
        self.is_reading = False
        self._aside = 0

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = self._header_bytes = self._limit = 0
        self._in_head = True


class _Refused(Exception):  # noqa: N818  (nothing went wrong here)
    """Thrown out of the parser's callbacks."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer
