"""The SQLite event log keeps the contract, and what only it promises."""

import sqlite3
from pathlib import Path

import pytest

from roomrec.errors import StateError
from serving.state.sqlite_event_log import SqliteEventLog
from tests.contracts.event_log_contract import EventLogContract, event


class TestSqliteEventLog(EventLogContract):
    def open_log(self, folder: Path) -> SqliteEventLog:
        return SqliteEventLog(folder / "events.sqlite")


def test_a_commit_reaches_the_disk_before_it_returns(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    assert log._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    log.close()


def test_what_is_no_log_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "events.sqlite"
    file.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(StateError, match=r"events\.sqlite cannot be opened"):
        SqliteEventLog(file)


def test_a_log_held_by_somebody_else_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.sqlite_event_log._BUSY_TIMEOUT_S", 0.05)
    log = SqliteEventLog(tmp_path / "events.sqlite")
    other = sqlite3.connect(tmp_path / "events.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="locked"):
        log.append([event("a")])
    other.execute("ROLLBACK")
    other.close()
    assert log.append([event("a")]).statuses == ["accepted"]
    log.close()


def test_no_byte_of_an_erased_viewer_stays_in_the_files(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    log.append([event(f"e{n}", user_id="secret-viewer") for n in range(50)])
    log.append([event("other", user_id="somebody")])
    log.erase_user("secret-viewer")
    found = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"secret-viewer" not in found
    assert b"somebody" in found
    log.close()


def test_events_of_a_viewer_can_be_read(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    log.append([event("a", user_id="u1"), event("b", user_id="u2"), event("c", user_id="u1")])
    assert [each["event_id"] for each in log.read_user("u1")] == ["a", "c"]
    log.close()
