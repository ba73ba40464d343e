"""A replica whose Redis hangs or comes back, and machines that follow one log in Redis."""

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from roomrec.errors import StateError
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS
from tests.serving.state.redis_server import RedisServer, running

LIVE = {"scarf-room", "tool-room", "quiet-room"}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def both(settings: Settings, server: RedisServer) -> Settings:
    return msgspec.structs.replace(settings, event_log="redis", state_store="redis", redis_url=server.url)


def rooms(endpoint: Endpoint) -> set[str]:
    return {item["room_id"] for item in endpoint.recommend(Query("u1", "room_feed", 100)).items}


async def longest_stall_s(seconds: float) -> float:
    """Return for how long at most the event loop did nothing else."""
    longest, until = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_a_redis_that_hangs_stops_no_event_loop(both: Settings, server: RedisServer) -> None:
    async def ask(endpoint: Endpoint, took_s: list[float]) -> None:
        while True:
            began = time.monotonic()
            with pytest.raises(StateError, match="did not answer"):
                endpoint.recommend(Query("u1", "room_feed", 5))
            took_s.append(time.monotonic() - began)
            await asyncio.sleep(0.01)

    async def play() -> None:
        endpoint = Endpoint.open(both, now_ms=lambda: NOW_MS)
        await endpoint.start()
        await endpoint.post(opening())
        assert rooms(endpoint) == LIVE
        assert endpoint.not_ready_because() is None
        server.process.send_signal(signal.SIGSTOP)
        took_s: list[float] = []
        asking = asyncio.create_task(ask(endpoint, took_s))
        post = asyncio.create_task(endpoint.post([enter("u1", "tool-room", "tom")]))
        try:
            # the log is followed twice a second, Redis asked four times: none of that is on the loop
            assert await longest_stall_s(2.5) < 0.4
            assert len(took_s) > 100
            assert sum(each > 0.03 for each in took_s) <= 2
            assert "does not answer" in str(endpoint.not_ready_because())
            with pytest.raises(StateError, match="did not answer within 1 s"):
                await post
            assert not asking.done()
        finally:
            asking.cancel()
            server.process.send_signal(signal.SIGCONT)
        back_at = time.monotonic()
        while endpoint.not_ready_because() is not None:
            await asyncio.sleep(0.01)
        assert rooms(endpoint) == LIVE
        await endpoint.post([event("room_end", room_id="tool-room")])
        assert rooms(endpoint) == LIVE - {"tool-room"}
        assert time.monotonic() - back_at < 1.0
        await endpoint.close()

    asyncio.run(play())


def test_a_replica_nobody_asks_knows_that_its_redis_is_away_and_back(both: Settings, server: RedisServer) -> None:
    async def play() -> None:
        endpoint = Endpoint.open(both, now_ms=lambda: NOW_MS)
        await endpoint.start()
        server.kill()
        await asyncio.sleep(0.6)
        assert "redis.sock" in str(endpoint.not_ready_because())
        server.start()
        await asyncio.sleep(0.6)
        assert endpoint.not_ready_because() is None
        await endpoint.close()

    asyncio.run(play())


def test_what_another_machine_is_told_is_seen_before_the_next_look(
    settings: Settings, server: RedisServer, tmp_path: Path
) -> None:
    async def play() -> None:
        here, there = (
            Endpoint.open(
                msgspec.structs.replace(
                    settings, event_log="redis", redis_url=server.url, data=str(tmp_path / name), poll_ms=30_000
                ),
                now_ms=lambda: NOW_MS,
            )
            for name in ("here", "there")
        )
        for endpoint in (here, there):
            await endpoint.start()
        await here.post(opening())
        for expected, news in ((LIVE, []), (LIVE - {"tool-room"}, [event("room_end", room_id="tool-room")])):
            await here.post(news)
            told_at = time.monotonic()
            while rooms(there) != expected:
                await asyncio.sleep(0.005)
                assert time.monotonic() - told_at < 1.0
        for endpoint in (here, there):
            await endpoint.close()

    asyncio.run(play())
