"""The SQLite event log keeps the contract, and what only it promises."""

import random
import sqlite3
from pathlib import Path

import msgspec
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


@pytest.mark.parametrize("seed", range(4))
def test_no_byte_of_an_erased_viewer_stays_in_the_files(tmp_path: Path, seed: int) -> None:
    """Many viewers and erasures, since what is moved by one may be left behind by another."""
    draw = random.Random(seed)
    log = SqliteEventLog(tmp_path / "events.sqlite")
    reading = SqliteEventLog(tmp_path / "events.sqlite")
    names = [f"viewer-{number:03}-x" for number in range(40)]
    gone: set[str] = set()
    kept = []
    for _ in range(80):
        events = []
        for _ in range(draw.randrange(1, 30)):
            name = draw.choice(names)
            words = {"said": f"{name} " * draw.choice([1, 10, 200, 1_000])}
            events.append(event(f"{name}-{draw.getrandbits(64):016x}", user_id=name, context=words))
        if gone.isdisjoint(each["user_id"] for each in events):
            log.append(events)
            kept += events
        if draw.random() < 0.1:
            name = draw.choice(names)
            assert log.erase_user(name) == sum(each["user_id"] == name for each in kept)
            kept = [each for each in kept if each["user_id"] != name]
            gone.add(name)
            names.remove(name)
            assert len(reading.read(after=0, limit=10_000)) == len(kept)
    assert len(gone) > 3
    found = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert [name for name in gone if name.encode() in found] == []
    assert all(name.encode() in found for name in names)
    assert [entry.event for entry in log.read(after=0, limit=10_000)] == kept
    seqs = [entry.seq for entry in log.read(after=0, limit=10_000)]
    assert [log.read(after=seq - 1, limit=1)[0].seq for seq in seqs[:50]] == seqs[:50]
    log.close()
    reading.close()


def test_a_log_that_is_read_for_long_is_not_said_to_be_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.sqlite_event_log._BUSY_TIMEOUT_S", 0.05)
    log = SqliteEventLog(tmp_path / "events.sqlite")
    log.append([event("a", user_id="secret-viewer")])
    other = sqlite3.connect(tmp_path / "events.sqlite", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchall()
    with pytest.raises(StateError, match="too long to empty its WAL"):
        log.erase_user("secret-viewer")
    other.close()
    assert log.erase_user("secret-viewer") == 0
    assert b"secret-viewer" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    log.close()


def test_a_log_of_a_former_version_is_taken_over(tmp_path: Path) -> None:
    former = sqlite3.connect(tmp_path / "events.sqlite", isolation_level=None)
    former.executescript(
        """
        PRAGMA journal_mode=WAL;
        CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE,
            event_type TEXT NOT NULL, user_id TEXT, room_id TEXT, product_id TEXT, body BLOB NOT NULL);
        CREATE INDEX events_of_user ON events (user_id) WHERE user_id IS NOT NULL;
        """
    )
    events = [event("a", user_id="u1"), event("b", "room_end", room_id="r1"), event("c", user_id="secret-viewer")]
    for each in [*events, event("gone")]:
        former.execute(
            "INSERT INTO events (event_id, event_type, user_id, body) VALUES (?, ?, ?, ?)",
            (each["event_id"], each["event_type"], each.get("user_id"), msgspec.json.encode(each)),
        )
    former.execute("DELETE FROM events WHERE event_id = 'gone'")
    former.close()
    for _ in range(2):  # the second finds it as it should be
        log = SqliteEventLog(tmp_path / "events.sqlite")
        assert [(entry.seq, entry.event) for entry in log.read(after=0, limit=9)] == list(enumerate(events, 1))
        assert log.last_seq() == 4
        log.close()
    log = SqliteEventLog(tmp_path / "events.sqlite")
    assert log.append([event("a"), event("d")]).statuses == ["duplicate", "accepted"]
    assert log.erase_user("secret-viewer") == 1
    assert b"secret-viewer" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    log.close()


def test_events_of_a_viewer_can_be_read(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    log.append([event("a", user_id="u1"), event("b", user_id="u2"), event("c", user_id="u1")])
    assert [each["event_id"] for each in log.read_user("u1")] == ["a", "c"]
    log.close()
