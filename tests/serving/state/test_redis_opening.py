"""An endpoint whose words are redis: opened by settings, killed under load, brought back."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from roomrec.errors import ConfigurationError, StateError
from serving.__main__ import application
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings
from serving.state.opening import Opened, open_log, open_state, open_store
from serving.state.records import UserRecord, unpack_user
from serving.state.redis_event_log import RedisEventLog
from serving.state.writer import EventWriter
from tests.contracts.state_store_contract import enter as entered
from tests.contracts.state_store_contract import start as started
from tests.serving.evening import enter, opening
from tests.serving.shop import NOW_MS
from tests.serving.state.redis_server import RedisServer, running


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def both(settings: Settings, server: RedisServer) -> Settings:
    return msgspec.structs.replace(
        settings, event_log="redis", state_store="redis", redis_url=server.url, redis_timeout_ms=500
    )


def test_two_machines_answer_from_what_either_was_told(both: Settings, tmp_path: Path) -> None:
    async def play() -> None:
        here, there = (
            Endpoint.open(msgspec.structs.replace(both, data=str(tmp_path / name)), now_ms=lambda: NOW_MS)
            for name in ("here", "there")
        )
        await here.post(opening())
        slate = there.recommend(Query("ann", "room_feed", 5))
        assert {item["room_id"] for item in slate.items} == {"scarf-room", "tool-room", "quiet-room"}
        await there.post([enter("ann", "scarf-room", "mia")])
        user = here.user("ann")
        assert user is not None
        assert len(user["history"]) == 1
        receipt = await here.erase_user("ann")
        assert receipt["removed"]["event_log"] == {"events": 1}
        assert there.user("ann") is None
        for endpoint in (here, there):
            await endpoint.close()

    asyncio.run(play())


@pytest.mark.parametrize(("event_log", "state_store"), [("redis", "lmdb"), ("sqlite", "redis")])
def test_one_of_both_may_be_redis(both: Settings, server: RedisServer, event_log: str, state_store: str) -> None:
    settings = msgspec.structs.replace(both, event_log=event_log, state_store=state_store)
    opened = open_state(settings)
    opened.store.catch_up(opened.appended.append([started(0), entered(1)]))
    assert opened.store.read_catalogue().rooms.keys() == {"r1"}
    opened.close()
    with server.client() as client:
        groups = [group["name"] for group in client.xinfo_groups("{roomrec}:log")] if event_log == "redis" else []
        assert all(name.startswith(b"lmdb@") for name in groups)
        assert client.exists("{roomrec}:state-live") == (state_store == "redis")


def test_a_state_on_the_disk_does_not_follow_a_log_that_may_forget(both: Settings) -> None:
    settings = msgspec.structs.replace(both, state_store="lmdb", redis_durability="everysec")
    with pytest.raises(ConfigurationError, match="state_store=lmdb cannot follow"):
        open_state(settings)


def test_commands_work_on_redis(both: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("event_log", "state_store", "redis_url", "data"):
        monkeypatch.setenv(f"ROOMREC_{name.upper()}", getattr(both, name))
    monkeypatch.setenv("ROOMREC_REDIS_EVENTS_KEPT", "1")

    def run(*arguments: str) -> str:
        return " ".join(CliRunner().invoke(application, list(arguments)).output.split())

    assert "there is no event log 'roomrec' in Redis" in run("rebuild-state")
    opened = open_state(both)
    opened.store.catch_up(opened.appended.append([started(0), entered(1), entered(2)]))
    opened.close()
    assert "state rebuilt up to event 3" in run("rebuild-state")
    assert "3 events written" in run("export-events", str(tmp_path / "export"))
    assert "2 events moved" in run("trim-log", str(tmp_path / "archive"))
    assert "1 events written" in run("export-events", str(tmp_path / "rest"))
    assert "cannot rebuild: events 1 to 2 have left the event log" in run("rebuild-state")
    assert "state rebuilt up to event 3" in run("rebuild-state", "--archive", str(tmp_path / "archive"))
    opened = open_state(both)
    assert len(user_of(opened).events) == 2
    opened.close()
    assert "holds 1 events, 2 have left the log" in run("rebuild-state", "--archive", str(tmp_path / "rest"))
    monkeypatch.setenv("ROOMREC_EVENT_LOG", "sqlite")
    assert "there is no event log" in run("trim-log", str(tmp_path / "archive"))


def test_a_full_redis_refuses_bodies_whole_and_keeps_what_it_has(both: Settings, server: RedisServer) -> None:
    opened = open_state(both)
    with server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
    acknowledged: list[int] = []

    def post_until_full() -> None:
        while True:
            opened.appended.append(body_of(len(acknowledged)))
            acknowledged.append(100)

    with pytest.raises(StateError, match="used memory > 'maxmemory'"):
        post_until_full()
    kept = sum(acknowledged)
    assert kept >= 500
    assert len(opened.log.read(after=0, limit=100_000)) == kept == opened.log.last_seq()
    with server.client() as client:
        assert client.hlen("{roomrec}:log-ids") == client.hlen("{roomrec}:log-bodies") == kept
    assert opened.appended.erase_user("u7") == len(acknowledged)  # what makes room goes through
    assert isinstance(opened.log, RedisEventLog)
    opened.log.trim(opened.log.read(after=0, limit=kept // 2))
    assert opened.appended.append(body_of(len(acknowledged))).statuses == ["accepted"] * 100
    with server.client() as client:
        client.config_set("maxmemory", 1)
    assert opened.log.erase_user("u8") > 0
    assert opened.store._erase_from(b"{roomrec}:state-live", "u8").events == 0
    opened.close()


def body_of(number: int) -> list[dict[str, Any]]:
    """A hundred events of a hundred viewers."""
    return [entered(n, user_id=f"u{n}") | {"event_id": f"{number}-{n}"} for n in range(100)]


def test_a_full_redis_may_forget_viewers_and_nothing_else(both: Settings, server: RedisServer) -> None:
    opened = open_state(msgspec.structs.replace(both, redis_user_ttl_days=30))
    opened.store.catch_up(opened.appended.append([started(0), *(entered(n, user_id=f"u{n}") for n in range(3_000))]))
    with server.client() as client:
        keys = {key for key in client.scan_iter() if b":user:" not in key}
        client.config_set("maxmemory-policy", "volatile-ttl")
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 200_000)
        opened.appended.append([entered(0, user_id="late")])
        assert {key for key in client.scan_iter() if b":user:" not in key} == keys | {b"{roomrec}:log-of:late"}
        assert 0 < sum(1 for _ in client.scan_iter("*:user:*")) < 3_000
    opened.store.catch_up()
    assert len(opened.log.read(after=0, limit=100_000)) == 3_002
    assert opened.store.read_catalogue().rooms.keys() == {"r1"}
    opened.close()


def test_over_http_a_dead_redis_is_503_at_once_and_all_is_well_when_it_is_back(
    both: Settings, server: RedisServer
) -> None:
    endpoint = Endpoint.open(both, now_ms=lambda: NOW_MS)
    with TestClient(create_api(endpoint), raise_server_exceptions=False) as client:
        assert client.post("/v1/events", json=opening()).status_code == 200
        server.kill()
        late, asked = enter("ann", "scarf-room", "mia"), {"user_id": "ann", "surface": "room_feed", "k": 3}
        for _ in range(3):
            asked_at = time.monotonic()
            refused = client.post("/v1/events", json=[late])
            assert client.post("/v1/recommendations", json=asked).status_code in (200, 503)
            assert time.monotonic() - asked_at < 1
            assert refused.status_code == 503
            assert "redis.sock" in refused.json()["detail"]
            assert refused.headers["retry-after"] == "1"
        server.start()
        assert client.post("/v1/events", json=[late]).json()["results"][0]["status"] == "accepted"
        assert len(client.post("/v1/recommendations", json=asked).json()["items"]) == 3
        assert len(client.get("/v1/users/ann").json()["history"]) == 1


def user_of(opened: Opened, user_id: str = "u1") -> UserRecord:
    packed = opened.store.read_user(user_id)[1]
    return UserRecord(user_id) if packed is None else unpack_user(packed)


def test_killed_and_brought_back_under_load_nothing_is_lost_or_doubled(both: Settings, server: RedisServer) -> None:
    settings = msgspec.structs.replace(both, history_limit=10_000)
    acknowledged: list[str] = []
    failures: list[tuple[float, str]] = []
    stop = threading.Event()

    def post(name: str) -> None:
        opened = open_state(settings)
        writer = EventWriter(opened.appended, opened.store)
        number = 0
        while not stop.is_set():
            event = entered(number) | {"event_id": f"{name}-{number}"}
            asked_at = time.monotonic()
            try:
                writer.post([event]).result(10)
            except StateError as error:  # the client sends it again, as it would after 503
                failures.append((time.monotonic() - asked_at, str(error)))
                time.sleep(0.02)
                continue
            acknowledged.append(event["event_id"])
            packed = opened.store.read_user("u1")[1] if number % 10 == 0 else None
            if packed is not None:
                assert event["event_id"] in {past.event_id for past in unpack_user(packed).events}
            number += 1
        writer.close()
        opened.close()

    threads = [threading.Thread(target=post, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.5)
        server.kill()
        time.sleep(0.2)
        server.start()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()

    assert failures
    assert max(seconds for seconds, _ in failures) < 1.5
    assert all("redis.sock" in text for _, text in failures)
    log = open_log(settings)
    store = open_store(settings, log)
    store.catch_up()
    logged = [entry.event["event_id"] for entry in log.read(after=0, limit=100_000)]
    assert len(acknowledged) > 100
    assert len(logged) == len(set(logged))
    assert set(acknowledged) <= set(logged)
    packed = store.read_user("u1")[1]
    assert packed is not None
    assert sorted(past.event_id for past in unpack_user(packed).events) == sorted(logged)
    store.close()
    log.close()
