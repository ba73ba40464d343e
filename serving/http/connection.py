"""One connection: requests answered in their order, and patience with nobody who abuses it."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, cast

from serving.http.messages import Answer, Request, head_of, problem
from serving.http.reading import Arrived, RequestReader

if TYPE_CHECKING:
    from serving.http.listener import Listener

_LOG = logging.getLogger(__name__)
_MAX_WAITING: Final = 32
_AT_ONCE: Final = 32
_GOES_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """Has requests answered one after the other, and writes the answers.

    Args:
        listener: Whose connection this is: it knows the routes, the limits and the time.
    """

    def __init__(self, listener: "Listener") -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._reader: RequestReader | None = None
        self._waiting: deque[Arrived] = deque()
        self._last_words: Answer | None = None
        self._is_answering = False
        self._is_starting_answers = False
        self._is_closing = False
        self._is_ended = False
        self._is_blocked = False
        self._has_asked = False
        self._heard_at_s = listener.now_s
        self._stuck_at_s = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing has been asked that is not answered, and nothing is being asked."""
        return not (self._is_busy or self._is_reading)

    @property
    def _is_busy(self) -> bool:
        return self._is_answering or bool(self._waiting) or self._last_words is not None

    @property
    def _is_reading(self) -> bool:
        return self._reader is not None and self._reader.is_reading

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._reader = RequestReader(
            client=(str(peer[0]), int(peer[1])) if peer else ("", 0),
            limit_of=self._listener.max_body_bytes,
            on_expected=lambda: self._transport and self._transport.write(_GOES_ON),
        )
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was asked: nobody waits for it any more."""
        self._is_closing = True
        self._reader = None
        self._waiting.clear()
        self._listener.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes in."""
        if self._is_closing or self._reader is None or self._last_words is not None:
            return
        was_reading = self._reader.is_reading
        arrived, refusal = self._reader.feed(data)
        if arrived or not was_reading:
            self._heard_at_s = self._listener.now_s
        self._has_asked = self._has_asked or bool(arrived)
        self._waiting.extend(arrived)
        if refusal is not None:
            self._refuse(refusal)
        self._breathe()
        self._answer_next()

    def eof_received(self) -> bool:
        """Answer what has been asked, then close: nothing more can come, not even the rest of a request."""
        self._is_ended = True
        if self._is_reading and self._last_words is None:
            self._refuse(problem(400, "the connection was ended in the middle of the request"))
        return self._is_busy

    def pause_writing(self) -> None:
        """Read no more requests while the other side does not read its answers."""
        self._is_blocked = True
        self._stuck_at_s = self._listener.now_s
        self._breathe()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_blocked = False
        self._breathe()
        self._answer_next()

    def look_at_the_clock(self, now_s: float, *, request_timeout_s: float, idle_timeout_s: float) -> None:
        """End what takes too long.

        Args:
            now_s: Seconds, monotonic.
            request_timeout_s: How long a request may take to arrive, an answer to be read, and a new connection to ask.
            idle_timeout_s: How long a connection that has asked may say nothing.
        """
        if self._is_blocked or self._is_closing:
            if now_s - self._stuck_at_s > request_timeout_s:
                self.abort()
        elif not self._is_busy:
            is_due = self._is_reading or not self._has_asked
            if now_s - self._heard_at_s > (request_timeout_s if is_due else idle_timeout_s):
                if self._is_reading:
                    self._refuse(problem(408, "the request did not arrive in time"))
                else:
                    self.close()

    def close(self) -> None:
        """End the connection after what has been written."""
        if not self._is_closing:
            self._is_closing = True
            self._stuck_at_s = self._listener.now_s
        self._waiting.clear()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _answer_next(self) -> None:
        """Have what waits answered, as far as that is done at once; the rest goes on when an answer is there."""
        if self._is_starting_answers:
            return
        self._is_starting_answers = True
        for _ in range(_AT_ONCE):
            if not self._waiting or self._is_answering or self._is_closing or self._is_blocked:
                break
            self._start_answer(self._waiting.popleft())
        else:
            self._listener.soon(self._answer_next)  # others are to be heard, too
        self._is_starting_answers = False
        if self._last_words is not None and not (self._waiting or self._is_answering or self._is_closing):
            self._say_last_words()

    def _start_answer(self, arrived: Arrived) -> None:
        self._is_answering = True
        request, keep_alive = arrived
        self._listener.answer(request, lambda answer: self._take(request, keep_alive, answer), self._is_gone)

    def _is_gone(self) -> bool:
        return self._is_closing or self._transport is None or self._transport.is_closing()

    def _take(self, request: Request, keep_alive: bool, answer: Answer | Awaitable[Answer]) -> None:
        if isinstance(answer, Answer):
            self._write(request, keep_alive, answer)
        else:
            task = asyncio.ensure_future(answer)
            task.add_done_callback(lambda done: self._take(request, keep_alive, _result_of(done, request)))

    def _write(self, request: Request, keep_alive: bool, answer: Answer) -> None:
        self._is_answering = False
        if self._is_gone() or self._transport is None:
            return
        is_last = self._listener.is_draining or (self._is_ended and not self._waiting and self._last_words is None)
        keep_alive = keep_alive and not is_last
        head = head_of(answer, date=self._listener.date, close=not keep_alive)
        self._transport.write(head if request.method == "HEAD" else head + answer.body)
        self._heard_at_s = self._listener.now_s
        if not keep_alive:
            self.close()
            return
        self._breathe()
        self._answer_next()

    def _refuse(self, answer: Answer) -> None:
        """Answer what cannot be read as a request, after the answers before it, and end the connection."""
        self._last_words = answer
        self._listener.count(answer.status)
        self._answer_next()

    def _say_last_words(self) -> None:
        if self._last_words is not None and self._transport is not None and not self._is_gone():
            self._transport.write(
                head_of(self._last_words, date=self._listener.date, close=True) + self._last_words.body
            )
        self.close()

    def _breathe(self) -> None:
        """Read on, or let the other side wait, as there is room for its requests and for our answers."""
        if self._transport is None or self._is_closing:
            return
        wants = not self._is_blocked and len(self._waiting) < _MAX_WAITING
        if wants and not self._transport.is_reading():
            self._transport.resume_reading()
        elif not wants and self._transport.is_reading():
            self._transport.pause_reading()


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
