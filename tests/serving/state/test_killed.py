"""A process that dies at the worst moment loses and doubles nothing."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import unpack_user
from serving.state.sqlite_event_log import SqliteEventLog

_DIES = """
import os, signal, sys
from pathlib import Path
from serving.state import lmdb_tables
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.lmdb_state_store import LmdbStateStore
from tests.contracts.state_store_contract import enter

folder, moment = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
log = SqliteEventLog(folder / "events.sqlite")
store = LmdbStateStore(folder / "state", log, history_limit=5, map_bytes=1 << 24)
log.append([enter(1), enter(2)])
store.catch_up()
if moment == "before the commit":
    log._connection.execute("BEGIN IMMEDIATE")
    log._connection.execute("DELETE FROM events")
    die()
log.append([enter(3)])
if moment == "inside the state's transaction":
    lmdb_tables.LmdbTables.write = die
if moment == "after the commit":
    die()
store.catch_up()
die()
"""


@pytest.mark.parametrize(
    ("moment", "logged", "applied"),
    [
        ("before the commit", [1, 2], [1, 2]),
        ("after the commit", [1, 2, 3], [1, 2]),
        ("inside the state's transaction", [1, 2, 3], [1, 2]),
        ("after all of it", [1, 2, 3], [1, 2, 3]),
    ],
)
def test_kill_9(tmp_path: Path, moment: str, logged: list[int], applied: list[int]) -> None:
    killed = subprocess.run([sys.executable, "-c", _DIES, tmp_path, moment], cwd=Path.cwd(), check=False)
    assert killed.returncode == -signal.SIGKILL
    log = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", log, history_limit=5, map_bytes=1 << 24)

    def remembered() -> list[int]:
        user = store.read_user("u1")[1]
        return [] if user is None else [past.occurred_at_ms for past in unpack_user(user).events]

    assert [entry.event["occurred_at_ms"] for entry in log.read(after=0, limit=10)] == logged
    assert remembered() == applied
    store.catch_up()
    assert remembered() == logged
    store.catch_up()
    assert remembered() == logged
    store.close()
    log.close()
