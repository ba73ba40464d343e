"""Ready bytes to any HTTP/1.1 server: open loop with latencies from the intended instant, or closed loop.

    result = await open_loop([Target("127.0.0.1", 8000)], cycle([request]), rate=1000, duration_s=10)
    result.summary()["latency_ms"]["p99"]

**Coordinated omission.** An open-loop load is a plan of instants that does not wait for answers. Where the server
stalls, requests wait here and their waiting counts: latency is answer minus intended instant. What the server alone
took, from the actual sending, stands beside it as service time, which is the figure that hides stalls.
"""

import contextlib
import gc
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from scripts.load_serving.agenda import Agenda, Phase, now, poisson_instants
from scripts.load_serving.connections import Exchange, Pool, Target
from scripts.load_serving.recording import Recorder, percentile

LAG_LIMIT_MS: Final = 1.0
"""A generator whose own p99 lag is above this measured itself, not the server."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a load measured."""

    recorder: Recorder
    seconds: float
    """measured, without warm-up and drain"""
    cpu_s: float
    """CPU time of this process, with warm-up"""
    connect_errors: int
    longest_queue: int = 0
    """most requests that waited for a connection when another came"""

    @property
    def is_generator_limited(self) -> bool:
        """Whether the generator was late with what it should have sent."""
        return is_late(self.recorder)

    def summary(self) -> dict[str, Any]:
        """Say everything in numbers."""
        return self.recorder.summary(self.seconds) | {
            "seconds": round(self.seconds, 3),
            "connect_errors": self.connect_errors,
            "longest_queue": self.longest_queue,
            "generator_cpu_s": round(self.cpu_s, 3),
            "generator_limited": self.is_generator_limited,
        }


async def open_loop(
    targets: Sequence[Target],
    requests: Iterator[bytes],
    *,
    rate: float,
    duration_s: float,
    connections: int = 64,
    seed: int = 0,
    warmup_s: float = 0.0,
    timeout_s: float = 10.0,
    on_answer: Callable[[Exchange], None] | None = None,
) -> Result:
    """Send requests at the instants of a Poisson process, whatever becomes of them.

    Args:
        targets: Where to, connections by turns.
        requests: Whole requests, head and body; if they end, so does the load.
        rate: Requests a second.
        duration_s: Seconds that are measured.
        connections: Keep-alive connections; a request that finds all busy waits, and its waiting counts.
        seed: Decides the instants.
        warmup_s: Seconds before that are not measured.
        timeout_s: A request without an answer so long after its instant is an error.
        on_answer: Called with every request that is over; what it takes delays the next one.

    Returns:
        What was measured; answers to requests sent in time are waited for.

    Raises:
        OSError: If the server cannot be reached at the beginning.
        ValueError: If rate or duration is not above 0.
    """
    if not (rate > 0 and duration_s > 0):
        raise ValueError(f"rate {rate} and duration_s {duration_s} must be above 0")
    pool = Pool(targets, connections=connections, timeout_s=timeout_s)
    await pool.open()
    agenda = Agenda()
    recorder = Recorder()
    over = recorder.record if on_answer is None else _both(recorder.record, on_answer)
    longest = 0

    def send(due: float) -> None:
        nonlocal longest
        if (payload := next(requests, None)) is not None:
            pool.submit(Exchange(payload, due, over))
            longest = max(longest, pool.waiting)

    try:
        with without_collections():
            cpu_s = cpu_time()
            begin = now() + 0.005
            recorder.since = begin + warmup_s
            recorder.until = recorder.since + duration_s
            plan = poisson_instants([Phase(rate, warmup_s + duration_s)], np.random.default_rng(seed))
            agenda.follow((begin + instant for instant in plan), send)
            await agenda.until(recorder.until)
            await pool.drain(timeout_s)
    finally:
        agenda.close()
        await pool.close()
    return Result(recorder, duration_s, cpu_time() - cpu_s, pool.errors["connect"], longest)


def _both(first: Callable[[Exchange], None], second: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    def call(exchange: Exchange) -> None:
        first(exchange)
        second(exchange)

    return call


async def closed_loop(
    targets: Sequence[Target],
    requests: Iterator[bytes],
    *,
    concurrency: int,
    duration_s: float,
    warmup_s: float = 0.0,
    timeout_s: float = 10.0,
    on_answer: Callable[[Exchange], None] | None = None,
) -> Result:
    """Keep a number of requests under way: each answer sends the next request. For saturation.

    Args:
        targets: Where to, connections by turns.
        requests: Whole requests, head and body; if they end, so does the load.
        concurrency: Requests under way, one a connection.
        duration_s: Seconds that are measured.
        warmup_s: Seconds before that are not measured.
        timeout_s: A request without an answer for so long is an error.
        on_answer: Called with every request that is over.

    Returns:
        What was measured; latency is service time here, for nothing was intended before.

    Raises:
        OSError: If the server cannot be reached at the beginning.
        ValueError: If concurrency or duration is not above 0.
    """
    if not (concurrency > 0 and duration_s > 0):
        raise ValueError(f"concurrency {concurrency} and duration_s {duration_s} must be above 0")
    pool = Pool(targets, connections=concurrency, timeout_s=timeout_s)
    await pool.open()
    agenda = Agenda()
    recorder = Recorder()
    end = 0.0

    def send() -> None:
        due = now()
        if due < end and (payload := next(requests, None)) is not None:
            pool.submit(Exchange(payload, due, answered))

    def answered(exchange: Exchange) -> None:
        if exchange.answered <= end:
            recorder.record(exchange)
        if on_answer is not None:
            on_answer(exchange)
        send()

    try:
        with without_collections():
            cpu_s = cpu_time()
            recorder.since = now() + warmup_s
            end = recorder.since + duration_s
            for _ in range(concurrency):
                send()
            await agenda.until(end)
            await pool.drain(timeout_s)
    finally:
        agenda.close()
        await pool.close()
    return Result(recorder, duration_s, cpu_time() - cpu_s, pool.errors["connect"])


def build_request(
    target: Target, method: str, path: str, body: bytes = b"", *, authorization: str | None = None
) -> bytes:
    """Return a whole HTTP/1.1 request.

    Args:
        target: Whom the Host header names.
        method: GET or POST.
        path: Begins with a slash; percent-encoded.
        body: JSON, or nothing.
        authorization: Header lines for access, ``"x-api-key: ..."``, without line end.

    Example:
        >>> build_request(Target("localhost", 80), "POST", "/v1/events", b"[]").splitlines()[0]
        b'POST /v1/events HTTP/1.1'
    """
    return request_head(target, method, path, authorization=authorization) + b"%d\r\n\r\n%b" % (len(body), body)


def request_head(target: Target, method: str, path: str, *, authorization: str | None = None) -> bytes:
    """Return a request up to the number of its ``content-length``, for many bodies."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {target.host}:{target.port}", "content-type: application/json"]
    lines += [authorization] if authorization else []
    return "\r\n".join([*lines, "content-length: "]).encode()


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Keep what exists out of garbage collections meanwhile: one of them would stop the generator for milliseconds."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def is_late(*recorders: Recorder) -> bool:
    """Return whether the generator's own p99 lag is above ``LAG_LIMIT_MS``."""
    lags = np.sort(np.concatenate([np.asarray(each.lag) for each in recorders]))
    return bool(len(lags)) and percentile(lags, 990) * 1000 > LAG_LIMIT_MS


def cpu_time() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
