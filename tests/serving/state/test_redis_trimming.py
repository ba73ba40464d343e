"""Events leave Redis only when they are in files and nobody needs them any more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from roomrec.events.parquet import read_events
from serving.privacy.exports import Exports
from serving.state import redis_trimming
from serving.state.export import export_events
from serving.state.redis_event_log import RedisEventLog
from serving.state.redis_state_store import RedisStateStore
from serving.state.redis_trimming import trim_log
from tests.contracts.state_store_contract import enter
from tests.serving.state.redis_server import RedisServer, running


@pytest.fixture(scope="module")
def shared_server() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture
def log(shared_server: RedisServer) -> Iterator[RedisEventLog]:
    with shared_server.client() as client:
        client.flushall()
    log = RedisEventLog(shared_server.connect())
    log.append([enter(at_ms) for at_ms in range(10)])
    yield log
    log.close()


@pytest.fixture
def store(shared_server: RedisServer, log: RedisEventLog) -> Iterator[RedisStateStore]:
    store = RedisStateStore(shared_server.connect(), log, history_limit=100, log_key=log.key)
    store.catch_up()
    yield store
    store.close()


def written(folder: Path) -> list[int]:
    return pa.concat_tables(read_events(folder))["occurred_at_ms"].to_pylist()


def test_without_a_follower_everything_stays(tmp_path: Path, log: RedisEventLog) -> None:
    assert trim_log(log, tmp_path / "archive", keep=0, exports=Exports(tmp_path)) == (0, 0, None)
    assert len(log.read(after=0, limit=100)) == 10


@pytest.mark.usefixtures("store")
def test_the_newest_stay_and_the_rest_is_in_files(tmp_path: Path, log: RedisEventLog) -> None:
    exports = Exports(tmp_path)
    assert trim_log(log, tmp_path / "archive", keep=4, exports=exports) == (6, 6, None)
    assert written(tmp_path / "archive") == list(range(6))
    assert trim_log(log, tmp_path / "archive", keep=3, exports=exports) == (1, 7, None)
    assert sorted(written(tmp_path / "archive")) == list(range(7))
    assert export_events(log, tmp_path / "rest", exports=exports) == 3
    assert written(tmp_path / "rest") == [7, 8, 9]
    exports.erase_user("u1")
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.mark.usefixtures("store")
def test_what_is_not_applied_stays_and_it_is_said_why(tmp_path: Path, log: RedisEventLog) -> None:
    log.append([enter(at_ms) for at_ms in range(10, 15)])
    assert trim_log(log, tmp_path / "archive", keep=0, exports=Exports(tmp_path)) == (10, 10, "state")
    assert [entry.event["occurred_at_ms"] for entry in log.read(after=10, limit=100)] == [10, 11, 12, 13, 14]


@pytest.mark.usefixtures("store")
def test_a_trim_that_was_killed_before_it_removed_doubles_nothing(
    tmp_path: Path, log: RedisEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_trimming, "_ROWS_AT_ONCE", 4)
    trim, pieces = log.trim, []

    def dies_at_the_second(entries: Any) -> None:
        pieces.append(entries)
        if len(pieces) == 2:
            raise KeyboardInterrupt
        trim(entries)

    monkeypatch.setattr(log, "trim", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        trim_log(log, tmp_path / "archive", keep=0, exports=Exports(tmp_path))
    assert log.trimmed_seq() == 4
    trim_log(log, tmp_path / "archive", keep=0, exports=Exports(tmp_path))
    assert sorted(written(tmp_path / "archive")) == list(range(10))
    assert log.read(after=10, limit=10) == []


@pytest.mark.usefixtures("store")
def test_what_was_erased_leaves_no_hole_that_stops_it(tmp_path: Path, log: RedisEventLog) -> None:
    log.append([enter(20, user_id="u2")])
    log.erase_user("u1")
    log.append([enter(30, user_id="u2")])
    assert trim_log(log, tmp_path / "archive", keep=0, exports=Exports(tmp_path)) == (0, 0, "state")
