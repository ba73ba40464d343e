"""The loop of a replica: accepts connections, lets requests wait their turn, and stops without dropping one."""

import asyncio
import contextlib
import logging
import resource
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from email.utils import formatdate
from typing import Any, Final, Protocol

import uvloop

from serving.http.admission import AdmissionQueue
from serving.http.connection import Connection
from serving.http.messages import Answer, Request, problem

_LOG = logging.getLogger(__name__)
_TICK_S: Final = 0.5
_DRAIN_TICK_S: Final = 0.02
_ACCEPT_AGAIN_S: Final = 1.0
_ACCEPT_PAUSE_S: Final = 0.001
_CROWD_S: Final = 0.003
_MOST_ACCEPTED_AT_ONCE: Final = 32
_HEARTBEAT_TIMEOUT_S: Final = 10.0
_OTHER_FILES: Final = 256
"""Besides connections: logs, state, metrics, and what Ray opens"""


class Application(Protocol):
    """What a listener serves."""

    def max_body_bytes(self, path: bytes, headers: Mapping[bytes, bytes]) -> int:
        """Return how long the body of a request to a path may be, from whoever its headers say it is."""

    def waits_in_line(self, request: Request) -> bool:
        """Whether a request takes its turn, and may be refused when too many wait; others are answered at once."""

    def answer(self, request: Request, *, is_pressed: bool) -> Answer | Awaitable[Answer]:
        """Answer a request, or say what to wait for; when pressed for time, by less than all there is to say."""

    def take_waited_s(self) -> float:
        """Return how long requests have waited outside the line, all together, since this was asked last."""

    def count(self, status: int) -> None:
        """Take note of an answer that was given without asking the application."""

    async def start(self) -> None:
        """Begin, on the listener's loop, before the first request."""

    async def close(self) -> None:
        """End, on the listener's loop, after the last request."""


class Listener:
    """Serves one application on a listening socket, on a thread and an event loop of its own.

    Args:
        application: What answers.
        listening: A listening socket that does not block; stays the caller's to close.
        max_wait_s: How long a request may wait for its turn before the next is refused with 503.
        request_timeout_s: How long a request may take to arrive, and how long an answer may wait to be read.
        idle_timeout_s: How long a connection may say nothing.
        max_connections: More are closed as they come.

    Example::

        with SharedSocket("127.0.0.1", 8000) as shared:
            listener = Listener(application, shared.socket)
            listener.start()
            ...
            listener.stop(drain_s=5)
    """

    def __init__(
        self,
        application: Application,
        listening: socket.socket,
        *,
        max_wait_s: float = 0.01,
        request_timeout_s: float = 10.0,
        idle_timeout_s: float = 75.0,
        max_connections: int = 8192,
    ) -> None:
        self._application = application
        self._listening = listening
        self._request_timeout_s = request_timeout_s
        self._idle_timeout_s = idle_timeout_s
        self._max_connections = max_connections
        self._queue = AdmissionQueue(max_wait_s=max_wait_s)
        self._overloaded = problem(503, "too many requests are waiting", (b"retry-after", b"1"))
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._stopping: asyncio.Event | None = None
        self._drain_s = 0.0
        self.connections: set[Connection] = set()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._accept_at_once = 1
        self._accepted_at = float("-inf")
        self.is_draining = False
        self.now_s = time.monotonic()
        """the time, as exact as the limits need it"""
        self.date = b""
        """the time, as HTTP writes it"""
        self.soon = self._loop.call_soon
        self.max_body_bytes = application.max_body_bytes
        self.count = application.count

    def start(self) -> None:
        """Serve, until ``stop``.

        Raises:
            Exception: Whatever the application cannot start for.
        """
        _allow_files(self._max_connections + _OTHER_FILES)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self, *, drain_s: float) -> None:
        """Accept no more connections, answer what was asked, and end.

        A connection that is kept alive is told with its next answer that it ends. One that asks nothing is closed after
        ``drain_s``, so that a request which is just on its way is still answered.

        Args:
            drain_s: How long to wait for connections that ask nothing.
        """
        if self._thread.is_alive() and self._stopping is not None:
            self._drain_s = drain_s
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def take_ongoing(self) -> float:
        """Return how many requests waited or were being answered, on average since this was asked last.

        Raises:
            RuntimeError: If the listener's loop does not answer in time.
        """

        async def measure() -> float:
            return self._queue.take_ongoing(waited_beside_s=self._application.take_waited_s())

        return float(self.call(measure()))

    def call(self, work: Coroutine[Any, Any, Any], *, timeout_s: float = _HEARTBEAT_TIMEOUT_S) -> Any:
        """Do something on the listener's loop and wait for it, from another thread.

        Raises:
            RuntimeError: If the loop has ended or does not answer in time.
        """
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("the listener has ended")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise RuntimeError(f"the listener has not answered for {timeout_s} s") from None

    def answer(
        self, request: Request, take: Callable[[Answer | Awaitable[Answer]], None], is_gone: Callable[[], bool]
    ) -> None:
        """Have a request answered, in its turn.

        Args:
            request: What is asked.
            take: Gets the answer.
            is_gone: Whether nobody waits for it any more.
        """
        if not self._application.waits_in_line(request):
            take(self._ask(request))
            return

        def work() -> None:
            if not is_gone():
                take(self._ask(request))

        idle = not self._queue
        if not self._queue.admit(work):
            self.count(503)
            take(self._overloaded)
        elif idle:
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Answer one request; then let the loop read what has come meanwhile, so that refusals are not late."""
        try:
            self._queue.work()
        finally:
            if self._queue:
                self._loop.call_soon(self._work)

    def _ask(self, request: Request) -> Answer | Awaitable[Answer]:
        try:
            return self._application.answer(request, is_pressed=self._queue.is_pressed)
        except Exception:
            _LOG.exception("a request failed")
            return problem(500, "internal error")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                _LOG.exception("the listener failed")
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        self._look_at_the_clock()
        await self._application.start()
        self._loop.add_reader(self._listening.fileno(), self._accept)
        ticking = asyncio.create_task(self._tick())
        self._started.set()
        try:
            await self._stopping.wait()
            await self._drain()
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            await self._application.close()

    def _accept(self) -> None:
        """Take a connection, and leave the next to others for a moment: whoever is quickest would have them all.

        When more have come by then, twice as many are taken at a time, so that a crowd is let in quickly.
        """
        now = self._loop.time()
        is_crowd = now - self._accepted_at < _CROWD_S
        self._accept_at_once = min(2 * self._accept_at_once, _MOST_ACCEPTED_AT_ONCE) if is_crowd else 1
        self._accepted_at = now
        pause_s = _ACCEPT_PAUSE_S
        try:
            for _ in range(self._accept_at_once):
                accepted, _ = self._listening.accept()
                self._welcome(accepted)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            self._accept_at_once = 1  # another replica was faster, or there are no more
        except OSError as error:  # no more files, or no memory: the connection waits, and asking again would not help
            _LOG.warning("cannot accept connections for %s s: %s", _ACCEPT_AGAIN_S, error)
            pause_s = _ACCEPT_AGAIN_S
        self._loop.remove_reader(self._listening.fileno())
        self._loop.call_later(pause_s, self._accept_again)

    def _welcome(self, accepted: socket.socket) -> None:
        if len(self.connections) + len(self._arriving) >= self._max_connections:
            accepted.close()
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: Connection(self), accepted))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        task.add_done_callback(_say_failure)

    def _accept_again(self) -> None:
        if not self.is_draining:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    async def _drain(self) -> None:
        self.is_draining = True
        self._loop.remove_reader(self._listening.fileno())
        await asyncio.gather(*self._arriving, return_exceptions=True)
        patience_until_s = time.monotonic() + self._drain_s
        while self.connections:
            if time.monotonic() >= patience_until_s:
                for connection in [each for each in self.connections if each.is_idle]:
                    connection.close()
                if time.monotonic() >= patience_until_s + self._request_timeout_s:
                    for connection in list(self.connections):
                        connection.abort()
            await asyncio.sleep(_DRAIN_TICK_S)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            self._look_at_the_clock()
            for connection in list(self.connections):
                connection.look_at_the_clock(
                    self.now_s, request_timeout_s=self._request_timeout_s, idle_timeout_s=self._idle_timeout_s
                )

    def _look_at_the_clock(self) -> None:
        self.now_s = time.monotonic()
        self.date = formatdate(usegmt=True).encode()


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files as far as it may, and say when that is too little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        _LOG.warning("this process may open %d files, which is less than %d: raise `ulimit -n`", allowed, wanted)


def _say_failure(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.debug("a connection ended before it began: %s", error)
