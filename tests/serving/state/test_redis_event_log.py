"""The Redis event log keeps the contract, and what only it promises."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roomrec.errors import StateError
from serving.state.redis_event_log import RedisEventLog
from tests.contracts.event_log_contract import EventLogContract, event
from tests.serving.state.redis_server import RedisServer, running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    with shared_server.client() as client:
        client.flushall()
    return shared_server


@pytest.fixture
def log(server: RedisServer) -> Iterator[RedisEventLog]:
    log = RedisEventLog(server.connect())
    yield log
    log.close()


class TestRedisEventLog(EventLogContract):
    @pytest.fixture(autouse=True)
    def _server(self, server: RedisServer) -> None:
        self.server = server

    def open_log(self, folder: Path) -> RedisEventLog:
        return RedisEventLog(self.server.connect())


def ids(log: RedisEventLog) -> list[str]:
    return [entry.event["event_id"] for entry in log.read(after=0, limit=1_000)]


def test_who_waits_is_told_of_the_next_event_or_that_there_was_none(log: RedisEventLog, server: RedisServer) -> None:
    asked_at = time.monotonic()
    log.wait(after=0, longest_s=0.2)  # there is no stream yet
    assert 0.2 <= time.monotonic() - asked_at < 1.0
    log.append([event("a")])
    asked_at = time.monotonic()
    log.wait(after=0, longest_s=30)
    threading.Timer(0.2, log.append, [[event("b")]]).start()
    log.wait(after=1, longest_s=30)
    assert 0.2 <= time.monotonic() - asked_at < 0.8
    impatient = RedisEventLog(server.connect(timeout_ms=400))
    asked_at = time.monotonic()
    impatient.wait(after=2, longest_s=30)  # no longer than an answer may take
    assert time.monotonic() - asked_at < 0.4
    impatient.close()


def test_every_key_lies_in_one_slot(log: RedisEventLog, server: RedisServer) -> None:
    log.append([event("a", user_id="u1")])
    with server.client() as client:
        keys = sorted(client.keys())
    assert keys == [b"{roomrec}:log", b"{roomrec}:log-bodies", b"{roomrec}:log-ids", b"{roomrec}:log-of:u1"]


def test_a_long_log_is_read_in_pieces(log: RedisEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.redis_event_log._READ_AT_ONCE", 2)
    log.append([event(name) for name in "abcde"])
    assert ids(log) == list("abcde")
    assert [entry.seq for entry in log.read(after=1, limit=3)] == [2, 3, 4]


def test_very_many_go_in_pieces_and_it_is_told_if_others_came_between(
    log: RedisEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.state.redis_event_log._APPENDED_AT_ONCE", 2)
    log.append([event("x")])
    appended = log.append([event(name) for name in "abxbc"])
    assert appended.statuses == ["accepted", "accepted", "duplicate", "duplicate", "accepted"]
    assert [entry.seq for entry in appended.entries] == [2, 3, 4]
    assert appended.previous_seq == 1
    script = log._append_script

    def with_somebody_after(**arguments: Any) -> Any:
        found = script(**arguments)
        monkeypatch.setattr(log, "_append_script", script)
        log.append([event("other")])
        return found

    monkeypatch.setattr(log, "_append_script", with_somebody_after)
    appended = log.append([event(name) for name in "defg"])
    assert [entry.seq for entry in appended.entries] == [5, 6, 8, 9]
    assert appended.previous_seq == 9
    with pytest.raises(ValueError):
        log.append([event("h"), event("i"), event("j", stock=2**63)])
    assert log.last_seq() == 9


def test_an_emptied_log_counts_on_after_a_restart(log: RedisEventLog, server: RedisServer) -> None:
    log.append([event("a", user_id="u1"), event("b", user_id="u1")])
    log.erase_user("u1")
    server.bytes_after_rewriting()
    server.kill()
    server.start()
    assert log.last_seq() == 2
    assert log.append([event("c")]).entries[0].seq == 3


def test_what_was_acknowledged_survives_a_kill(log: RedisEventLog, server: RedisServer) -> None:
    for n in range(50):
        log.append([event(f"e{n}")])
    server.kill()
    with pytest.raises(StateError, match=r"event log cannot be written: Redis unix:///.*redis\.sock"):
        log.append([event("never")])
    server.start()
    assert ids(log) == [f"e{n}" for n in range(50)]
    assert log.append([event("e7"), event("e50")]).statuses == ["duplicate", "accepted"]


def test_events_of_a_viewer_can_be_read(log: RedisEventLog) -> None:
    log.append([event("a", user_id="u1"), event("b", user_id="u2"), event("c", user_id="u1")])
    assert [each["event_id"] for each in log.read_user("u1")] == ["a", "c"]


def test_no_byte_of_an_erased_viewer_stays_in_memory_or_on_the_disk(
    log: RedisEventLog, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.state.redis_event_log._ERASED_AT_ONCE", 20)
    log.append([event(f"secret-{n}", user_id="secret-viewer", request_id="secret") for n in range(50)])
    log.append([event("other", user_id="somebody")])
    assert b"secret" in server.bytes_after_rewriting()
    assert log.erase_user("secret-viewer") == 50
    found = server.bytes_after_rewriting()
    assert b"secret" not in found
    assert found.count(b"somebody") >= 4
    assert log.append([event("secret-1", user_id="secret-viewer")]).statuses == ["accepted"]


def test_a_rewrite_that_had_begun_is_waited_for(log: RedisEventLog, server: RedisServer) -> None:
    log.append([event("a", user_id="secret-viewer")])
    with server.client() as client:
        client.bgrewriteaof()
    log.erase_user("secret-viewer")
    assert b"secret-viewer" not in server.bytes_after_rewriting()


def test_trimming_forgets_the_oldest_and_says_so_to_whoever_needs_them(log: RedisEventLog, server: RedisServer) -> None:
    log.append([event("a", user_id="u1"), event("b", user_id="u1"), event("c", user_id="u2")])
    log.trim(log.read(after=0, limit=2))
    assert log.trimmed_seq() == 2
    assert [entry.event["event_id"] for entry in log.read(after=2, limit=10)] == ["c"]
    with pytest.raises(StateError, match="events 2 to 2 have left the event log"):
        log.read(after=1, limit=10)
    with server.client() as client:
        assert client.hkeys("{roomrec}:log-ids") == [b"c"]
        assert client.hkeys("{roomrec}:log-bodies") == [b"3"]
        assert not client.exists("{roomrec}:log-of:u1")
    assert log.append([event("a"), event("c")]).statuses == ["accepted", "duplicate"]


def test_the_slowest_group_and_what_it_has_not_acknowledged_hold_the_log_back(
    log: RedisEventLog, server: RedisServer
) -> None:
    assert log.slowest_group() == (None, 0)
    log.append([event(name) for name in "abcde"])
    assert log.slowest_group() == (None, 0)
    with server.client() as client:
        client.xgroup_create("{roomrec}:log", "state", id="0-5")
        assert log.slowest_group() == ("state", 5)
        client.xgroup_create("{roomrec}:log", "billing", id="0")
        client.xreadgroup("billing", "dead", {"{roomrec}:log": ">"}, count=4)
        client.xack("{roomrec}:log", "billing", "0-1", "0-2")
        assert log.slowest_group() == ("billing", 2)
        claimed = client.xautoclaim("{roomrec}:log", "billing", "alive", min_idle_time=0)[1]
        client.xack("{roomrec}:log", "billing", *(place for place, _ in claimed))
    assert log.slowest_group() == ("billing", 4)
    for _ in range(2):
        log.hold("lmdb@here")
    assert log.slowest_group() == ("lmdb@here", 0)
