"""The generator: a stall counts for everybody it kept waiting, errors are named, nothing hangs."""

import asyncio
from collections.abc import Coroutine
from itertools import islice, repeat
from typing import Any

import numpy as np
import pytest
import uvloop

from scripts.load_serving.agenda import Agenda, Phase, now, poisson_instants
from scripts.load_serving.connections import Exchange, Pool, Target
from scripts.load_serving.generator import build_request, closed_loop, open_loop
from scripts.load_serving.recording import Recorder, milliseconds
from tests.scripts.load_serving_servers import OK, Talk, answer, serving

REQUEST = build_request(Target("localhost", 80), "POST", "/v1/recommendations", b"{}")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def over(due: float, dispatched: float, sent: float, answered: float, status: int = 200) -> Exchange:
    exchange = Exchange(b"", due, lambda _: None)
    exchange.dispatched, exchange.sent, exchange.answered, exchange.status = dispatched, sent, answered, status
    return exchange


def test_latency_counts_from_the_intended_instant_and_service_from_the_sending() -> None:
    recorder = Recorder(since=10.0)
    recorder.record(over(9.9, 9.9, 9.9, 12.0))  # warm-up
    recorder.record(over(10.0, 10.001, 10.5, 10.6))
    recorder.record(over(10.1, 10.102, 10.6, 10.625))
    recorder.record(over(10.2, 10.2, 10.7, 10.701, status=503))
    found = recorder.summary(2.0)
    assert found["latency_ms"] == {
        "p50": 525.0,
        "p90": 600.0,
        "p95": 600.0,
        "p99": 600.0,
        "p99.9": 600.0,
        "max": 600.0,
        "mean": 562.5,
    }
    assert (found["service_ms"]["p50"], found["service_ms"]["max"]) == (25.0, 100.0)
    assert found["lag_ms"]["max"] == 2.0
    assert found["refused_ms"]["p50"] == 501.0
    assert found["refused_without_retry_after"] == 1
    assert (found["offered_rps"], found["achieved_rps"], found["statuses"]) == (1.5, 1.0, {"200": 2, "503": 1})


def test_what_comes_after_the_measured_time_was_not_achieved_in_it() -> None:
    recorder = Recorder(since=10.0, until=12.0)
    recorder.record(over(11.0, 11.0, 11.0, 11.5))
    recorder.record(over(11.0, 11.0, 11.0, 14.0))
    found = recorder.summary(2.0)
    assert (found["offered_rps"], found["achieved_rps"], found["served"]) == (1.0, 0.5, 2)
    assert found["latency_ms"]["max"] == 3000.0


def test_percentiles_are_measured_values() -> None:
    assert milliseconds([]) is None
    found = milliseconds([second / 1000 for second in range(1, 1001)])
    assert found == {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000, "mean": 500.5}


def test_a_stall_is_paid_for_by_everybody_it_kept_waiting() -> None:
    """Two seconds at 200 a second on one connection; in the second one nothing is answered until it is over.

    Half of all requests are due in the stall and wait 0 to 1 s evenly: 10 % of all wait longer than 0.8 s, 25 % longer
    than 0.5 s. Only one of them was under way, so the service time sees nothing.
    """

    async def measure() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        begin = loop.time()

        def react(talk: Talk, _head: bytes, _body: bytes) -> None:
            since = loop.time() - begin
            if since < 1.0:
                talk.write(OK)
            else:
                loop.call_later(max(2.0 - since, 0), talk.write, OK)

        async with serving(react) as target:
            return (
                await open_loop([target], repeat(REQUEST), rate=200, duration_s=2.0, connections=1, seed=1)
            ).summary()

    found = run(measure())
    assert found["served"] == pytest.approx(400, abs=60)
    assert found["latency_ms"]["p90"] == pytest.approx(800, abs=90)
    assert found["latency_ms"]["max"] == pytest.approx(1000, abs=60)
    assert found["service_ms"]["p99"] < 100
    assert found["service_ms"]["max"] == pytest.approx(1000, abs=60)
    assert found["longest_queue"] == pytest.approx(200, abs=50)
    assert found["errors"] == {}


def test_a_poisson_plan_keeps_its_rates() -> None:
    plan = list(poisson_instants([Phase(1000, 10), Phase(0, 5), Phase(5000, 2)], np.random.default_rng(3)))
    gaps = np.diff([instant for instant in plan if instant < 10])
    assert plan == sorted(plan)
    assert len(gaps) == pytest.approx(10_000, rel=0.03)
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.05)  # as of an exponential distribution
    assert not [instant for instant in plan if 10 <= instant < 15]
    assert len([instant for instant in plan if instant >= 15]) == pytest.approx(10_000, rel=0.03)
    assert plan == list(poisson_instants([Phase(1000, 10), Phase(0, 5), Phase(5000, 2)], np.random.default_rng(3)))


def test_the_agenda_is_on_time() -> None:
    async def measure() -> list[float]:
        agenda = Agenda()
        late: list[float] = []
        begin = now() + 0.01
        for number in range(50):
            agenda.at(begin + number * 0.0013, lambda instant: late.append(now() - instant))
        agenda.follow(iter([begin + 0.0005, begin + 0.0402]), lambda instant: late.append(now() - instant))
        await agenda.until(begin + 0.1)
        agenda.close()
        return late

    late = run(measure())
    assert len(late) == 52
    assert min(late) >= 0
    assert np.median(late) < 0.0005  # a timer of the event loop is a millisecond coarse


@pytest.mark.parametrize("cut", [1, 5, 17, 37, 39])
@pytest.mark.parametrize(
    "whole",
    [
        answer(b"hello world", headers="Server: x\r\n"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\n\r\n",
    ],
)
def test_answers_may_come_in_pieces(whole: bytes, cut: int) -> None:
    async def ask() -> list[Exchange]:
        def react(talk: Talk, _head: bytes, _body: bytes) -> None:
            talk.write(whole[:cut])
            asyncio.get_running_loop().call_later(0.01, talk.write, whole[cut:])

        async with serving(react) as target:
            return await exchanges(target, 3)

    for each in run(ask()):
        assert (each.status, each.body, each.error) == (200, b"hello world", None)


async def exchanges(target: Target, number: int, *, timeout_s: float = 5.0, connections: int = 1) -> list[Exchange]:
    """Send so many requests at once and wait for what becomes of them."""
    pool = Pool([target], connections=connections, timeout_s=timeout_s)
    await pool.open()
    done: list[Exchange] = []
    for _ in range(number):
        pool.submit(Exchange(REQUEST, now(), done.append))
    await pool.drain(timeout_s + 1)
    await pool.close()
    assert pool.under_way == 0
    return done


def test_headers_and_status_are_read() -> None:
    async def ask() -> list[Exchange]:
        refusal = answer(b"busy", status="503 Service Unavailable", headers="Retry-After: 7\r\n")
        async with serving(lambda talk, _head, _body: talk.write(refusal)) as target:
            return await exchanges(target, 1)

    (refused,) = run(ask())
    assert (refused.status, refused.body) == (503, b"busy")
    assert refused.header(b"retry-after") == b"7"
    assert refused.header(b"x-none") is None


def test_an_answer_that_closes_is_an_answer_and_the_connection_is_opened_again() -> None:
    async def ask() -> list[Exchange]:
        def react(talk: Talk, _head: bytes, _body: bytes) -> None:
            talk.write(answer(b"last", headers="Connection: close\r\n"))
            talk.transport.close()

        async with serving(react) as target:
            return await exchanges(target, 4)

    assert [(each.status, each.error) for each in run(ask())] == [(200, None)] * 4


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -\r\n\r\n", "malformed"),
        (OK + b"more than was announced", "malformed"),
    ],
)
def test_what_is_no_answer_is_an_error_and_the_rest_goes_on(said: bytes, error: str) -> None:
    async def ask() -> list[Exchange]:
        asked = 0

        def react(talk: Talk, _head: bytes, _body: bytes) -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                talk.write(said)
                talk.transport.close()
            else:
                talk.write(OK)

        async with serving(react) as target:
            return await exchanges(target, 3)

    assert [(each.status, each.error) for each in run(ask())] == [(0, error), (200, None), (200, None)]


def test_no_answer_is_a_timeout_also_for_who_waited() -> None:
    async def ask() -> list[Exchange]:
        async with serving(lambda _talk, _head, _body: None) as target:
            return await exchanges(target, 3, timeout_s=0.3)

    found = run(ask())
    assert [each.error for each in found] == ["timeout"] * 3
    assert all(0.3 <= each.answered - each.due < 0.8 for each in found)


def test_what_is_under_way_at_the_end_is_ended() -> None:
    async def ask() -> list[Exchange]:
        async with serving(lambda _talk, _head, _body: None) as target:
            pool = Pool([target], connections=2)
            await pool.open()
            done: list[Exchange] = []
            for _ in range(3):
                pool.submit(Exchange(REQUEST, now(), done.append))
            await asyncio.sleep(0.05)
            await pool.close()
            assert pool.under_way == 0
            return done

    assert [each.error for each in run(ask())] == ["ended"] * 3


def test_a_server_that_dies_and_comes_back_is_asked_again() -> None:
    async def measure() -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def listen(port: int) -> Coroutine[Any, Any, asyncio.Server]:
            return loop.create_server(lambda: Talk(lambda talk, _head, _body: talk.write(OK)), "127.0.0.1", port)

        talks: list[Talk] = []

        def begin() -> Talk:
            talks.append(Talk(lambda talk, _head, _body: talk.write(OK)))
            return talks[-1]

        first = await loop.create_server(begin, "127.0.0.1", 0)
        port = first.sockets[0].getsockname()[1]
        load = asyncio.create_task(
            open_loop([Target("127.0.0.1", port)], repeat(REQUEST), rate=300, duration_s=1.5, connections=4)
        )
        await asyncio.sleep(0.5)
        first.close()
        for talk in talks:
            talk.transport.abort()
        await asyncio.sleep(0.3)
        second = await listen(port)
        result = await load
        second.close()
        return result.summary()

    found = run(measure())
    assert found["connect_errors"] > 0
    assert found["served"] + found["errors"].get("reset", 0) == pytest.approx(450, abs=70)
    assert found["errors"].get("reset", 0) <= 4
    assert 200 < found["latency_ms"]["max"] < 900


def test_a_closed_loop_keeps_so_many_under_way() -> None:
    async def measure() -> tuple[dict[str, Any], int]:
        loop = asyncio.get_running_loop()
        under_way = most = 0

        def react(talk: Talk, _head: bytes, _body: bytes) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            loop.call_later(0.02, finish, talk)

        def finish(talk: Talk) -> None:
            nonlocal under_way
            under_way -= 1
            talk.write(OK)

        async with serving(react) as target:
            result = await closed_loop([target], repeat(REQUEST), concurrency=5, duration_s=1.0, warmup_s=0.1)
        return result.summary(), most

    found, most = run(measure())
    assert most == 5
    assert found["latency_ms"]["p50"] >= 20
    assert found["served"] * found["latency_ms"]["mean"] == pytest.approx(5_000, rel=0.15)  # 5 at a time for 1000 ms


def test_a_load_ends_with_its_requests() -> None:
    async def measure() -> tuple[int, int]:
        async with serving(lambda talk, _head, _body: talk.write(OK)) as target:
            seven, nine = islice(repeat(REQUEST), 7), islice(repeat(REQUEST), 9)
            opened = await open_loop([target], seven, rate=1000, duration_s=0.3, on_answer=seen.append)
            closed = await closed_loop([target], nine, concurrency=4, duration_s=0.3, on_answer=seen.append)
        return opened.summary()["served"], closed.summary()["served"]

    seen: list[Exchange] = []
    assert run(measure()) == (7, 9)
    assert [each.body for each in seen] == [b"ok"] * 16


def test_senseless_loads_are_refused() -> None:
    with pytest.raises(ValueError, match="rate 0 and duration_s 1 must be above 0"):
        run(open_loop([Target("127.0.0.1", 1)], repeat(REQUEST), rate=0, duration_s=1))
    with pytest.raises(ValueError, match="concurrency 0"):
        run(closed_loop([Target("127.0.0.1", 1)], repeat(REQUEST), concurrency=0, duration_s=1))
    with pytest.raises(OSError, match="111"):
        run(open_loop([Target("127.0.0.1", 1)], repeat(REQUEST), rate=1, duration_s=1))
