"""Keep-alive connections that send ready bytes and read HTTP/1.1 answers, at a few microseconds a request."""

import asyncio
import contextlib
import ssl
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from scripts.load_serving.agenda import now
from scripts.load_serving.answers import find_header, read_answer

RESET: Final = "reset"
"""The connection was closed before the answer was whole."""
TIMEOUT: Final = "timeout"
"""No answer in time, counted from the intended instant."""
MALFORMED: Final = "malformed"
"""What came back is no HTTP/1.1 answer with a length."""
CONNECT: Final = "connect"
"""A connection could not be opened; the request waits for another."""
ENDED: Final = "ended"
"""The run ended before the answer, or before there was a connection."""

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.5
_SWEEP_S = 0.1


class Target(NamedTuple):
    """Where an endpoint listens."""

    host: str
    port: int
    is_tls: bool = False


class Exchange:
    """One request and what became of it.

    Args:
        payload: The request, head and body.
        due: When it was to be sent, by the load's plan; latency counts from here.
        on_answer: Called once with this exchange when it is over, however it ended.
        about: Whatever the caller wants to remember.
    """

    __slots__ = (
        "about",
        "answered",
        "body",
        "dispatched",
        "due",
        "error",
        "head",
        "on_answer",
        "payload",
        "sent",
        "status",
    )

    def __init__(self, payload: bytes, due: float, on_answer: Callable[["Exchange"], None], about: Any = None) -> None:
        self.payload = payload
        self.due = due
        self.on_answer = on_answer
        self.about = about
        self.dispatched = 0.0
        self.sent = 0.0
        self.answered = 0.0
        self.status = 0
        self.head = b""
        self.body = b""
        self.error: str | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return a header of the answer by its name in small letters, None if there is none."""
        return find_header(self.head, name)


class Pool:
    """A fixed number of connections; each has one request under way, and what finds none free waits here.

    Args:
        targets: Where to connect, in turn.
        connections: How many.
        timeout_s: Most seconds from the intended instant to the answer; the connection is dropped then.
    """

    def __init__(self, targets: Sequence[Target], *, connections: int, timeout_s: float = 10.0) -> None:
        self.timeout_s = timeout_s
        self.errors: Counter[str] = Counter()
        self.under_way = 0
        self._loop = asyncio.get_running_loop()
        self._free: deque[_Connection] = deque()
        self._waiting: deque[Exchange] = deque()
        tls = ssl.create_default_context() if any(target.is_tls for target in targets) else None
        self._connections = [_Connection(self, targets[number % len(targets)], tls) for number in range(connections)]
        self._opening: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def open(self) -> None:
        """Open all connections.

        Raises:
            OSError: If one cannot be opened.
        """
        for each in self._connections:
            await each.connect()
            self._free.append(each)
        self._sweep()

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._waiting)

    def submit(self, exchange: Exchange) -> None:
        """Send a request on a free connection, or as soon as there is one."""
        exchange.dispatched = now()
        self.under_way += 1
        if self._free:
            self._free.popleft().send(exchange)
        else:
            self._waiting.append(exchange)

    async def drain(self, seconds: float) -> None:
        """Wait until nothing is under way, at most so long."""
        until = now() + seconds
        while self.under_way and now() < until:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Close all connections; what is under way ends with an error."""
        self._is_closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for task in self._opening:
            task.cancel()
        while self._waiting:
            self.end(self._waiting.popleft(), error=ENDED)
        for each in self._connections:
            each.drop(ENDED)
        while any(each.is_open for each in self._connections):
            await asyncio.sleep(0)

    def end(self, exchange: Exchange, *, error: str | None = None) -> None:
        """Finish a request."""
        exchange.answered = now()
        exchange.error = error
        self.under_way -= 1
        exchange.on_answer(exchange)

    def release(self, connection: "_Connection") -> None:
        """Give a connection to who waits longest."""
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """Open a lost connection again."""
        with contextlib.suppress(ValueError):
            self._free.remove(connection)
        if not self._is_closed:
            task = self._loop.create_task(self._open_again(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_again(self, connection: "_Connection") -> None:
        wait = _FIRST_WAIT_S
        while not self._is_closed:
            try:
                await asyncio.wait_for(connection.connect(), self.timeout_s)
            except OSError:  # a TimeoutError is one
                self.errors[CONNECT] += 1
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)
            else:
                if connection.is_open:  # else it was reset at once, and is being opened again
                    self.release(connection)
                return

    def _sweep(self) -> None:
        oldest = now() - self.timeout_s
        for each in self._connections:
            if each.exchange is not None and each.exchange.due < oldest:
                each.drop(TIMEOUT)
        while self._waiting and self._waiting[0].due < oldest:
            self.end(self._waiting.popleft(), error=TIMEOUT)
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)


class _Connection(asyncio.Protocol):
    def __init__(self, pool: Pool, target: Target, tls: ssl.SSLContext | None) -> None:
        self.exchange: Exchange | None = None
        self._pool = pool
        self._target = target
        self._tls = tls if target.is_tls else None
        self._transport: Any = None
        self._parts: list[bytes] = []
        self._missing = 0
        self._error = RESET

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def connect(self) -> None:
        self._error = RESET
        host, port, _ = self._target
        await asyncio.get_running_loop().create_connection(lambda: self, host, port, ssl=self._tls)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange.sent = now()
        self._transport.write(exchange.payload)

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
        try:
            answer = read_answer(data)
        except ValueError:
            self.drop(MALFORMED)
            return
        if isinstance(answer, int):
            self._parts, self._missing = [data], answer
            return
        exchange = self.exchange
        if exchange is None:  # an answer to nothing
            self.drop(MALFORMED)
            return
        if self._parts:
            self._parts = []
        self.exchange = None
        exchange.status, exchange.head, exchange.body = answer
        if b"connection: close" in answer.head:
            self._transport.close()
        else:
            self._pool.release(self)
        self._pool.end(exchange)

    def drop(self, error: str) -> None:
        self._error = error
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._parts = []
        exchange, self.exchange = self.exchange, None
        self._pool.lost(self)
        if exchange is not None:
            self._pool.end(exchange, error=self._error)
