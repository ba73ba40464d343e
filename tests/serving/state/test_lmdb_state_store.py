"""The LMDB state keeps the contract, and what only it promises."""

from pathlib import Path

import pytest

from roomrec.errors import StateError
from serving.settings import Settings
from serving.state import lmdb_state_store
from serving.state.event_log import EventLog
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import unpack_user
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.state_store import StateStore
from tests.contracts.state_store_contract import StateStoreContract, enter


class TestLmdbStateStore(StateStoreContract):
    def open_log(self, folder: Path) -> SqliteEventLog:
        return SqliteEventLog(folder / "events.sqlite")

    def open_store(self, folder: Path, log: EventLog) -> LmdbStateStore:
        return LmdbStateStore(folder, log, history_limit=self.history_limit, map_bytes=1 << 24)

    def contents(self, store: StateStore) -> object:
        assert isinstance(store, LmdbStateStore)
        return store.contents()


@pytest.fixture
def log(tmp_path: Path) -> SqliteEventLog:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    yield log
    log.close()


def open_store(tmp_path: Path, log: SqliteEventLog, *, history_limit: int = 5) -> LmdbStateStore:
    return LmdbStateStore(tmp_path / "state", log, history_limit=history_limit, map_bytes=1 << 24)


def remembered(store: LmdbStateStore) -> list[int]:
    user = store.read_user("u1")[1]
    return [] if user is None else [past.occurred_at_ms for past in unpack_user(user).events]


def test_a_larger_history_limit_reads_the_log_again(tmp_path: Path, log: SqliteEventLog) -> None:
    log.append([enter(at_ms) for at_ms in range(1, 5)])
    store = open_store(tmp_path, log, history_limit=2)
    store.catch_up()
    assert remembered(store) == [3, 4]
    store.close()
    store = open_store(tmp_path, log, history_limit=3)
    store.catch_up()
    assert remembered(store) == [2, 3, 4]
    store.close()


def test_a_state_made_by_other_rules_is_made_again(
    tmp_path: Path, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([enter(1)])
    store = open_store(tmp_path, log)
    before = store.catch_up()
    store.close()
    monkeypatch.setattr("serving.state.lmdb_state_store.RULES", 1_000)
    store = open_store(tmp_path, log)
    assert store.position() == (before.generation + 1, 0, 0)
    assert store.catch_up().applied_seq == before.applied_seq
    store.close()
    store = open_store(tmp_path, log)
    assert store.position() == (before.generation + 1, before.applied_seq, 0)
    store.close()


def test_a_state_taken_over_by_another_version_is_not_written(
    tmp_path: Path, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, log)
    store.catch_up(log.append([enter(1)]))
    with monkeypatch.context() as another_version:
        another_version.setattr("serving.state.lmdb_state_store.RULES", 1_000)
        with pytest.raises(StateError, match="made anew by rules"):
            store.catch_up(log.append([enter(2)]))
        with pytest.raises(StateError, match="made anew by rules"):
            store.erase_user("u1")
        with pytest.raises(StateError, match="made anew by rules"):
            store.rebuild()
    assert remembered(store) == [1]
    store.catch_up()
    assert remembered(store) == [1, 2]
    store.close()


def test_a_log_that_was_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    long, short = SqliteEventLog(tmp_path / "long.sqlite"), SqliteEventLog(tmp_path / "short.sqlite")
    long.append([enter(1), enter(2)])
    short.append([enter(9)])
    store = open_store(tmp_path, long)
    store.catch_up()
    store.close()
    store = open_store(tmp_path, short)
    store.catch_up()
    assert remembered(store) == [9]
    store.close()
    long.close()
    short.close()


def test_after_a_restart_of_the_machine_the_state_is_made_again(tmp_path: Path, log: SqliteEventLog) -> None:
    log.append([enter(1)])
    store = open_store(tmp_path, log)
    store.catch_up()
    store.close()
    (tmp_path / "state" / "boot_id").write_text("another start of this machine")
    (tmp_path / "state" / "data.mdb").write_bytes(b"half a page")
    store = open_store(tmp_path, log)
    store.catch_up()
    assert remembered(store) == [1]
    store.close()


def test_a_damaged_state_is_refused_and_says_what_to_do(tmp_path: Path, log: SqliteEventLog) -> None:
    open_store(tmp_path, log).close()
    (tmp_path / "state" / "data.mdb").write_bytes(b"x" * 16_384)
    with pytest.raises(StateError, match="rebuild-state"):
        open_store(tmp_path, log)


def test_a_full_state_is_an_error_and_changes_nothing(tmp_path: Path, log: SqliteEventLog) -> None:
    store = LmdbStateStore(tmp_path / "state", log, history_limit=5, map_bytes=1 << 18)
    log.append([enter(1)])
    store.catch_up()
    before = store.position()
    log.append([enter(1, user_id=f"user {n}") for n in range(5_000)])
    with pytest.raises(StateError, match="cannot be written"):
        store.catch_up()
    assert store.position() == before
    store.close()


def test_the_size_formula_is_not_far_from_the_truth(tmp_path: Path, log: SqliteEventLog) -> None:
    viewers, events = 40, 200
    log.append(
        [
            enter(
                1_700_000_000_000 + at_ms, user_id=f"user-{user:07}", room_id=f"room-{at_ms:07}", streamer_id="s-0001"
            )
            for user in range(viewers)
            for at_ms in range(events)
        ]
    )
    store = LmdbStateStore(tmp_path / "state", log, history_limit=events, map_bytes=1 << 26)
    store.catch_up()
    used = store._environment.info()["last_pgno"] * 4096
    assert used == pytest.approx(viewers * events * 133, rel=0.4)
    assert f"min(events, {events}) x 133 B" in Settings(history_limit=events).size_formula()
    store.close()


def test_the_limit_must_be_real(tmp_path: Path, log: SqliteEventLog) -> None:
    with pytest.raises(ValueError, match="history_limit must be at least 1, received 0"):
        open_store(tmp_path, log, history_limit=0)


def test_boot_ids_are_read_from_the_kernel() -> None:
    assert lmdb_state_store._BOOT_ID.name == "boot_id"


def test_opening_does_not_write_the_boot_id_again(tmp_path: Path, log: SqliteEventLog) -> None:
    """On a full disk it would be left empty, and whoever opens next would drop the file that others have open."""
    open_store(tmp_path, log).close()
    written = tmp_path / "state" / "boot_id"
    before = written.stat().st_mtime_ns
    open_store(tmp_path, log).close()
    assert written.stat().st_mtime_ns == before
