"""A state made again of a trimmed log and its archive is the state there was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roomrec.errors import StateError
from roomrec.events.erasure import ERASED_USERS_FILE, mark_erased
from serving.privacy.exports import Exports
from serving.state import redis_state_store, redis_trimming
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import unpack_user
from serving.state.redis_archive import ArchivedLog
from serving.state.redis_event_log import RedisEventLog
from serving.state.redis_state_store import RedisStateStore
from serving.state.redis_trimming import trim_log
from tests.contracts.state_store_contract import an_evening
from tests.serving.state.redis_server import RedisServer, running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    monkeypatch.setattr(redis_trimming, "_ROWS_AT_ONCE", 50)
    monkeypatch.setattr(redis_state_store, "_CHUNK", 30)
    with shared_server.client() as client:
        client.flushall()
    return shared_server


@pytest.fixture
def log(server: RedisServer) -> Iterator[RedisEventLog]:
    log = RedisEventLog(server.connect())
    log.append(an_evening(1))
    yield log
    log.close()


def open_store(server: RedisServer, log: Any) -> RedisStateStore:
    return RedisStateStore(server.connect(), log, history_limit=100, log_key=b"{roomrec}:log")


def archived(server: RedisServer, tmp_path: Path) -> ArchivedLog:
    log = RedisEventLog(server.connect())
    return ArchivedLog(log, tmp_path / "archive", erased_users=tmp_path / ERASED_USERS_FILE)


def known(store: Any) -> Any:
    """What a store says, without places in the log, which are new."""
    catalogue = store.read_catalogue()
    moments = {name: (moment.enters, moment.counts) for name, moment in store.read_moments(None).rooms.items()}
    users = {f"u{n}": packed and unpack_user(packed) for n in range(4) for packed in [store.read_user(f"u{n}")[1]]}
    return catalogue.rooms, catalogue.products, moments, users


def test_nothing_is_missing(server: RedisServer, log: RedisEventLog, tmp_path: Path) -> None:
    store = open_store(server, log)
    before = store.catch_up()
    expected = known(store)
    exports = Exports(tmp_path)
    assert trim_log(log, tmp_path / "archive", keep=100, exports=exports).events == 101
    assert trim_log(log, tmp_path / "archive", keep=40, exports=exports).events == 60
    store.close()
    whole = archived(server, tmp_path)
    store = open_store(server, whole)
    assert store.rebuild().applied_seq == before.applied_seq
    assert known(store) == expected
    again = LmdbStateStore(tmp_path / "state", whole, history_limit=100, map_bytes=1 << 24)
    assert again.catch_up().applied_seq == before.applied_seq
    assert known(again) == expected
    again.close()
    store.close()
    whole.close()


def test_all_of_it_may_be_in_the_archive(server: RedisServer, log: RedisEventLog, tmp_path: Path) -> None:
    store = open_store(server, log)
    before = store.catch_up()
    expected = known(store)
    trim_log(log, tmp_path / "archive", keep=0, exports=Exports(tmp_path))
    store.close()
    whole = archived(server, tmp_path)
    store = open_store(server, whole)
    assert store.rebuild().applied_seq == before.applied_seq
    assert known(store) == expected
    store.close()
    whole.close()


def test_who_was_erased_stays_erased(
    server: RedisServer, log: RedisEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(server, log)
    store.catch_up()
    exports = Exports(tmp_path)
    trim_log(log, tmp_path / "archive", keep=20, exports=exports)

    def erase(user_id: str) -> None:
        mark_erased(tmp_path / ERASED_USERS_FILE, user_id, at_ms=9_000_000)
        log.erase_user(user_id)
        store.erase_user(user_id)

    erase("u1")  # and the files still hold them
    whole = archived(server, tmp_path)
    building = open_store(server, whole)
    commit, commits = building._commit, []

    def erase_between(*arguments: Any, **named: Any) -> bool:
        commits.append(arguments)
        if len(commits) == 2:
            erase("u2")
        return commit(*arguments, **named)

    monkeypatch.setattr(building, "_commit", erase_between)
    building.rebuild()
    users = known(store)[3]
    assert users["u1"] is users["u2"] is None
    assert users["u0"] is not None
    building.close()
    whole.close()
    store.close()


def test_another_folder_is_refused(server: RedisServer, log: RedisEventLog, tmp_path: Path) -> None:
    store = open_store(server, log)
    store.catch_up()
    trim_log(log, tmp_path / "archive", keep=100, exports=Exports(tmp_path))
    with pytest.raises(StateError, match="holds 0 events, 101 have left the log"):
        ArchivedLog(log, tmp_path / "empty", erased_users=tmp_path / "none")
    store.close()
