"""What the chaos script counts as lost, doubled, different or failed: it must find what is wrong."""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.chaos_faults.books import compare_log, state_differs
from scripts.chaos_faults.hostile import written
from scripts.chaos_faults.load import errors_of
from scripts.chaos_faults.processes import end_session, in_session, is_there, named, who_commits
from scripts.chaos_faults.running import FAULTS
from scripts.chaos_faults.stages import STAGES, why_not
from serving.settings import Settings
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from tests.contracts.state_store_contract import enter, start


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder with a room and three events of a viewer, all applied."""
    settings = Settings(data=str(tmp_path), state_bytes=1 << 24)
    log = SqliteEventLog(settings.event_log_path)
    store = LmdbStateStore(settings.state_path, log, history_limit=settings.history_limit, map_bytes=1 << 24)
    log.append([start(1), enter(2), enter(3), enter(4)])
    store.catch_up()
    store.close()
    log.close()
    return settings


def ids(settings: Settings) -> list[str]:
    log = SqliteEventLog(settings.event_log_path)
    found = [entry.event["event_id"] for entry in log.read(after=0, limit=10)]
    log.close()
    return found


def test_all_is_well(settings: Settings) -> None:
    assert compare_log(settings, set(ids(settings))) == (4, [], [])
    assert state_differs(settings) == []


def test_a_lost_event_is_found(settings: Settings) -> None:
    assert compare_log(settings, {*ids(settings), "other"}) == (5, ["other"], [])


def test_a_doubled_event_is_found(settings: Settings) -> None:
    twice = ids(settings)[1]
    log = sqlite3.connect(settings.event_log_path)
    log.executescript(
        "CREATE TABLE copy AS SELECT * FROM events; INSERT INTO copy SELECT * FROM events WHERE seq = 2;"
        "UPDATE copy SET seq = 9 WHERE rowid = 5; DROP TABLE events; ALTER TABLE copy RENAME TO events;"
    )
    log.close()
    assert compare_log(settings, {twice}).doubled == [twice]


def test_a_state_that_lacks_what_is_logged_or_has_it_twice_is_found(settings: Settings) -> None:
    log = SqliteEventLog(settings.event_log_path)
    store = LmdbStateStore(settings.state_path, log, history_limit=settings.history_limit, map_bytes=1 << 24)
    with store._environment.begin(write=True) as transaction:
        store._tables.pop_user(transaction, "u1")
    store.close()
    log.close()
    assert state_differs(settings) == ["users"]


def test_errors_of_all_kinds_of_requests_are_added_up() -> None:
    events = {"statuses": {"200": 9, "503": 2}, "errors": {"reset": 1}, "refused_without_retry_after": 1}
    slates = {"statuses": {"200": 5, "500": 1}, "errors": {"timeout": 3}, "refused_without_retry_after": 0}
    found = {"stretches": [{"recommendations": slates, "events": events}], "connect_errors": 4}
    assert errors_of(found) == {"503": 2, "reset": 1, "500": 1, "timeout": 3, "no Retry-After": 1, "connect": 4}


def test_whoever_holds_the_write_lock_is_found(settings: Settings) -> None:
    holds = (
        "import sqlite3, sys, time; log = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "log.execute('BEGIN IMMEDIATE'); print('holds', flush=True); time.sleep(30)"
    )
    words = [sys.executable, "-c", holds, str(settings.event_log_path)]
    log = SqliteEventLog(settings.event_log_path)
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds\n"
        assert who_commits(settings.event_log_path, [holder.pid], within_s=2) == holder.pid
        assert who_commits(settings.event_log_path, [1], within_s=0.05) is None
        assert named(holder.pid, sys.executable) == [holder.pid]
        end_session(holder.pid)
        assert in_session(holder.pid) == {}
        assert not is_there(holder.pid)
    log.close()


def test_hostile_inputs_have_names_of_their_own() -> None:
    names = [each.name for each in written()]
    assert len(names) == len(set(names)) > 30


def test_every_fault_has_its_stage() -> None:
    assert {fault.stage for fault in FAULTS.values()} == STAGES.keys()
    assert why_not(("no-such-program",), "plain") == "no-such-program is not installed"


@pytest.mark.chaos
def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    words = [sys.executable, str(root / "scripts" / "chaos"), "--only", "replica-killed", "--seconds", "60"]
    before = processes()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as chaos:
        assert chaos.stderr is not None
        while "replica-killed" not in chaos.stderr.readline():
            assert chaos.poll() is None
        time.sleep(5)
        assert any("load-serving" in title for title in processes() - before)
        chaos.send_signal(2)
        chaos.wait(60)
    assert chaos.returncode == 130
    assert not [title for title in processes() - before if "chaos" in title]


def processes() -> set[str]:
    """What runs, by command line."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                found.add((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found
