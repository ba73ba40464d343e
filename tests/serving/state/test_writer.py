"""Group commit: many posts, few writes, and every post gets its own answer."""

import threading
from pathlib import Path
from typing import Any

import pytest

from roomrec.errors import StateError
from serving.state.event_log import Appended
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import unpack_user
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.writer import EventWriter
from tests.contracts.state_store_contract import enter


class SlowLog(SqliteEventLog):
    """Waits in its first append until it is told to go on, and counts appends."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.go_on = threading.Event()
        self.appends: list[int] = []

    def append(self, events: Any) -> Appended:
        self.go_on.wait(5)
        self.appends.append(len(events))
        return super().append(events)


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    log = SlowLog(tmp_path / "events.sqlite")
    reading = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", reading, history_limit=5, map_bytes=1 << 24)
    writer = EventWriter(log, store)
    yield log, store, writer
    log.go_on.set()
    writer.close()
    store.close()
    reading.close()


def test_posts_that_wait_share_a_write(parts: Any) -> None:
    log, store, writer = parts
    first = writer.post([enter(1)])
    while writer._posts:
        pass
    rest = [writer.post([enter(at_ms), enter(1)]) for at_ms in range(2, 6)]
    log.go_on.set()
    assert first.result(5) == ["accepted"]
    assert [future.result(5) for future in rest] == [["accepted", "duplicate"]] * 4
    assert log.appends == [1, 8]
    assert len(unpack_user(store.read_user("u1")[1]).events) == 5


def test_a_bad_post_does_not_fail_its_neighbours(parts: Any) -> None:
    log, _, writer = parts
    first = writer.post([enter(1)])
    while writer._posts:
        pass
    bad, good = writer.post([enter(2) | {"stock": 2**70}]), writer.post([enter(3)])
    log.go_on.set()
    assert first.result(5) == good.result(5) == ["accepted"]
    with pytest.raises(ValueError, match="stock"):
        bad.result(5)


def test_erasing_comes_after_what_was_posted_before(parts: Any) -> None:
    log, store, writer = parts
    writer.post([enter(1)])
    erased = writer.erase_user("u1")
    log.go_on.set()
    assert erased.result(5) == (1, (1, 0, 0))
    assert store.read_user("u1")[1] is None


def test_the_state_follows_without_reading_the_log_while_nobody_else_writes(
    parts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, store, writer = parts
    log.go_on.set()

    def refused(*, after: int, limit: int) -> None:
        raise AssertionError(f"the log was read after {after}")

    monkeypatch.setattr(store._log, "read", refused)
    for at_ms in range(1, 4):
        assert writer.post([enter(1), enter(at_ms), enter(at_ms)]).result(5).count("accepted") == 1
    assert [past.occurred_at_ms for past in unpack_user(store.read_user("u1")[1]).events] == [1, 2, 3]
    monkeypatch.undo()
    other = SqliteEventLog(log._path)
    other.append([enter(9)])
    other.close()
    writer.post([enter(10)]).result(5)
    assert [past.occurred_at_ms for past in unpack_user(store.read_user("u1")[1]).events] == [1, 2, 3, 9, 10]


def test_a_closed_writer_takes_nothing(parts: Any) -> None:
    log, _, writer = parts
    last = writer.post([enter(1)])
    log.go_on.set()
    writer.close()
    assert last.result(0) == ["accepted"]
    with pytest.raises(StateError, match="closed"):
        writer.post([enter(2)])
