"""What was accepted comes out as training reads it."""

from pathlib import Path

import pyarrow as pa
import pytest

from roomrec.errors import StateError
from roomrec.events.parquet import read_events
from serving.privacy.exports import Exports
from serving.state.export import export_events
from serving.state.sqlite_event_log import SqliteEventLog

DAY_MS = 86_400_000


@pytest.fixture
def log(tmp_path: Path) -> SqliteEventLog:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    start = {"event_id": "a", "event_type": "room_start", "occurred_at_ms": 5, "received_at_ms": 6, "room_id": "r1"}
    enter = {
        "event_id": "b",
        "event_type": "enter",
        "occurred_at_ms": DAY_MS,
        "received_at_ms": DAY_MS,
        "user_id": "u1",
    }
    log.append([enter | {"room_id": "r1", "streamer_id": "mia", "propensity": 0.5, "position": 3}])
    log.append([start | {"streamer_id": "mia", "context": {"title": "Silk", "category": "scarves"}}])
    yield log
    log.close()


def test_events_lie_in_their_days_with_all_columns(tmp_path: Path, log: SqliteEventLog) -> None:
    assert export_events(log, tmp_path / "out", exports=Exports(tmp_path)) == 2
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["day=1970-01-01", "day=1970-01-02"]
    started, entered = pa.concat_tables(read_events(tmp_path / "out")).to_pylist()
    assert (started["event_id"], started["context"]) == ("a", [("title", "Silk"), ("category", "scarves")])
    assert (entered["user_id"], entered["propensity"], entered["position"]) == ("u1", 0.5, 3)
    assert entered["watch_time_ms"] is None


def test_a_long_log_is_written_in_parts(tmp_path: Path, log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.export._ROWS_AT_ONCE", 1)
    assert export_events(log, tmp_path / "out", exports=Exports(tmp_path)) == 2
    assert sum(len(table) for table in read_events(tmp_path / "out")) == 2


def test_an_erased_viewer_is_not_in_it(tmp_path: Path, log: SqliteEventLog) -> None:
    log.erase_user("u1")
    assert export_events(log, tmp_path / "out", exports=Exports(tmp_path)) == 1


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, log: SqliteEventLog) -> None:
    export_events(log, tmp_path / "out", exports=Exports(tmp_path))
    with pytest.raises(StateError, match="is not empty"):
        export_events(log, tmp_path / "out", exports=Exports(tmp_path))
