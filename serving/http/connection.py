"""One connection: bytes to requests, answers to bytes, and patience with nobody who abuses it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools

from serving.http.messages import Answer, Request, head_of, problem

if TYPE_CHECKING:
    from serving.http.listener import Listener

_LOG = logging.getLogger(__name__)
_MAX_HEAD_BYTES: Final = 64 << 10
_MAX_TARGET_BYTES: Final = 8 << 10
_MAX_PIPELINED: Final = 32
_TOO_MUCH_HEAD: Final = problem(431, f"the headers have more than {_MAX_HEAD_BYTES} bytes")
_GOES_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Reads requests, has them answered in their order, and writes the answers.

    Args:
        listener: Whose connection this is: it knows the routes, the limits and the time.
    """

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._peer = ("", 0)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._answering = False
        self._closing = False
        self._is_ended = False
        self._is_blocked = False
        self._head_bytes = 0
        self.heard_at_s = listener.now_s
        """When this request, or the silence before it, began"""
        self.is_reading = False
        """Whether a request has begun and not yet arrived whole"""
        self.has_asked = False
        """Whether there ever was a whole request"""
        self._forget_request()

    @property
    def is_busy(self) -> bool:
        """Whether something has been asked that is not answered."""
        return self._answering or bool(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing has been asked that is not answered, and nothing is being asked."""
        return not (self.is_busy or self.is_reading)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = (str(peer[0]), int(peer[1])) if peer else self._peer
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was asked: nobody waits for it any more."""
        self._closing = True
        self._waiting.clear()
        self._listener.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes in."""
        if self._closing:
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # whoever offers another protocol is answered in this one
        except _Refused as refused:
            self._refuse(refused.answer)
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            self._refuse(refused.answer if isinstance(refused, _Refused) else problem(400, "this is not HTTP/1.1"))
        except httptools.HttpParserError:
            self._refuse(problem(400, "this is not HTTP/1.1"))
        else:
            if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:  # one header, or one line, that does not end
                self._refuse(_TOO_MUCH_HEAD)

    def eof_received(self) -> bool:
        """Answer what has been asked, then close: nothing more can come, not even the rest of a request."""
        self._is_ended = True
        if self.is_busy:
            return True
        if self.is_reading:
            self._refuse(problem(400, "the connection was ended in the middle of the request"))
        return False

    def pause_writing(self) -> None:
        """Read no more requests while the other side does not read its answers."""
        self._is_blocked = True
        self._breathe()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_blocked = False
        self._breathe()
        self._next()

    # What the parser says.

    def on_message_begin(self) -> None:
        """A request begins."""
        self._forget_request()
        self.is_reading = True
        self.heard_at_s = self._listener.now_s

    def on_url(self, url: bytes) -> None:
        """Its target, perhaps in pieces."""
        self._target += url
        if len(self._target) > _MAX_TARGET_BYTES:
            raise _Refused(problem(414, f"the path has more than {_MAX_TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEAD_BYTES:
            raise _Refused(_TOO_MUCH_HEAD)
        name = name.lower()
        known = self._headers.get(name)
        self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        """All of its head: what is too long need not be read."""
        self._in_head = False
        self._head_bytes = 0
        path, _, _ = self._target.partition(b"?")
        self._limit = self._listener.max_body_bytes(path, self._headers)
        length = self._headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            raise _Refused(problem(413, f"the body has {int(length)} bytes, at most {self._limit} are allowed"))
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
            self._transport.write(_GOES_ON)

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
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
            client=self._peer,
            raw_path=path,
        )
        self.is_reading = False
        self.has_asked = self._in_head = True
        self._waiting.append((request, self._parser.should_keep_alive()))
        self.heard_at_s = self._listener.now_s
        self._breathe()
        self._next()

    # Answering, one request after the other.

    def _next(self) -> None:
        if self._answering or self._closing or self._is_blocked or not self._waiting:
            return
        self._answering = True
        request, keep_alive = self._waiting.popleft()
        self._listener.answer(request, lambda answer: self._take(request, keep_alive, answer), self._is_gone)

    def _is_gone(self) -> bool:
        return self._closing or self._transport is None or self._transport.is_closing()

    def _take(self, request: Request, keep_alive: bool, answer: Answer | Awaitable[Answer]) -> None:
        if isinstance(answer, Answer):
            self._write(request, keep_alive, answer)
        else:
            task = asyncio.ensure_future(answer)
            task.add_done_callback(lambda done: self._take(request, keep_alive, _result_of(done, request)))

    def _write(self, request: Request, keep_alive: bool, answer: Answer) -> None:
        self._answering = False
        if self._is_gone() or self._transport is None:
            return
        is_last = self._listener.is_draining or (self._is_ended and not self._waiting)
        keep_alive = keep_alive and not is_last
        head = head_of(answer, date=self._listener.date, close=not keep_alive)
        self._transport.write(head if request.method == "HEAD" else head + answer.body)
        self.heard_at_s = self._listener.now_s
        if not keep_alive:
            self.close()
            return
        if self._waiting:
            self._breathe()
            self._next()

    def _refuse(self, answer: Answer) -> None:
        """Answer what cannot be read as a request, after the answers before it, and end the connection."""
        if self._answering or self._waiting:
            self.close()  # answers that are still due would come after this one
            return
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head_of(answer, date=self._listener.date, close=True) + answer.body)
        self._listener.count(answer.status)
        self.close()

    def time_out(self) -> None:
        """End a connection that has been silent, or has been sending one request, for too long."""
        if self.is_reading:
            self._refuse(problem(408, "the request did not arrive in time"))
        else:
            self.close()

    def close(self) -> None:
        """End the connection after what has been written."""
        self._closing = True
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _breathe(self) -> None:
        """Read on, or let the other side wait, as there is room for its requests and for our answers."""
        if self._transport is None or self._closing:
            return
        wants = not self._is_blocked and len(self._waiting) < _MAX_PIPELINED
        if wants and not self._transport.is_reading():
            self._transport.resume_reading()
        elif not wants and self._transport.is_reading():
            self._transport.pause_reading()

    def _forget_request(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = self._header_bytes = 0
        self._in_head = True
        self._limit = 0


class _Refused(Exception):  # noqa: N818  (nothing went wrong here)
    """Thrown out of the parser's callbacks."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _result_of(done: "asyncio.Future[Any]", request: Request) -> Answer:
    if done.cancelled():
        return problem(503, "the endpoint is stopping", (b"retry-after", b"1"))
    if (error := done.exception()) is not None:
        _LOG.error("%s %s failed", request.method, _route_for_log(request), exc_info=error)
        return problem(500, "internal error")
    answer = done.result()
    assert isinstance(answer, Answer)
    return answer


def _route_for_log(request: Request) -> str:
    """The first two parts of a path: what follows may be somebody's id."""
    return "/".join(request.path.split("/")[:3])
