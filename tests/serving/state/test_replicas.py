"""Several processes on one state: what one accepted the others see at once; a killed one leaves nothing half done."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.writer import EventWriter
from tests.contracts.state_store_contract import enter, event, start

_OPENS = """
import json, os, signal, sys, time
from pathlib import Path
from serving.state import lmdb_tables
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from tests.contracts.state_store_contract import enter, event, start

folder = Path(sys.argv[1])
log = SqliteEventLog(folder / "events.sqlite")
store = LmdbStateStore(folder / "state", log, history_limit=5, map_bytes=1 << 26)
catalogue = LiveCatalogue(store)
"""

_ANSWERS = """
catalogue.refresh()
print("ready", flush=True)
for line in sys.stdin:
    catalogue.refresh()
    there = {room_id: catalogue.available_products(room_id) for room_id in catalogue.rooms}
    print(json.dumps(there), flush=True)
"""

_LOOKS = """
seen = {}
catalogue.refresh()
print("ready", flush=True)
while "last" not in seen:
    catalogue.refresh()
    now = time.monotonic()
    for room_id in catalogue.rooms.keys() - seen.keys():
        seen[room_id] = now
    time.sleep(0.0005)
print(json.dumps(seen), flush=True)
"""

_DIES_WRITING = """
write = lmdb_tables.LmdbTables.write

def dies(tables, transaction, applied):
    write(tables, transaction, applied)
    os.kill(os.getpid(), signal.SIGKILL)

lmdb_tables.LmdbTables.write = dies
appended = log.append([start(1, room_id="r2"), event("product_listed", 2, room_id="r2", product_id="silk"), enter(3)])
store.catch_up(appended)
"""


class Replica:
    """Another process on the same data."""

    def __init__(self, folder: Path, does: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _OPENS + does, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path.cwd(),
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def ask(self) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self.line())

    def end(self) -> int:
        """Let it finish, or finish it, and return how it ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        return self._process.wait(30)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[EventWriter]:
    followed = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", followed, history_limit=5, map_bytes=1 << 26)
    writer = EventWriter(SqliteEventLog(tmp_path / "events.sqlite"), store)
    yield writer
    writer.close()
    store.close()
    followed.close()


def test_what_one_accepted_the_next_question_to_another_knows(tmp_path: Path, writer: EventWriter) -> None:
    replicas = [Replica(tmp_path, _ANSWERS) for _ in range(2)]
    assert [replica.line() for replica in replicas] == ["ready", "ready"]

    def known(*events: dict[str, Any]) -> list[Any]:
        writer.post(events).result(10)
        return [replica.ask() for replica in replicas]

    for number in range(20):
        room = f"r{number}"
        listed = event("product_listed", 2, room_id=room, product_id="silk")
        assert known(start(1, room_id=room), listed) == [{room: ["silk"]}] * 2
        sold_out = event("stock_changed", 10 + number, product_id="silk", stock=0)
        late = event("stock_changed", 3, event_id=f"late-{number}", product_id="silk", stock=9)
        assert known(sold_out, enter(11)) == [{room: []}] * 2
        assert known(late) == [{room: []}] * 2
        back = event("stock_changed", 10 + number, event_id=f"~{number}", product_id="silk", stock=1)
        assert known(back, enter(12, user_id="u2")) == [{room: ["silk"]}] * 2
        assert known(event("room_end", 20, room_id=room)) == [{}] * 2
        assert known(start(30, room_id=room), listed | {"event_id": f"again-{number}"}) == [{}] * 2
    for replica in replicas:
        assert replica.end() == 0


def test_a_room_is_seen_by_a_running_replica_within_100_ms(tmp_path: Path, writer: EventWriter) -> None:
    replica = Replica(tmp_path, _LOOKS)
    assert replica.line() == "ready"
    accepted = {}
    for number in range(100):
        room = f"r{number}" if number < 99 else "last"
        viewers = [enter(number, user_id=f"u{viewer}", room_id=room) for viewer in range(10)]
        writer.post([start(number, room_id=room), *viewers]).result(10)
        accepted[room] = time.monotonic()
        time.sleep(0.005)
    seen = json.loads(replica.line())
    assert replica.end() == 0
    late_s = sorted(seen[room] - accepted[room] for room in accepted)
    assert len(late_s) == 100
    assert late_s[98] < 0.1


def test_a_writer_killed_inside_its_transaction_has_changed_nothing_for_those_who_follow(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", log, history_limit=5, map_bytes=1 << 26)
    store.catch_up(log.append([start(1)]))
    catalogue = LiveCatalogue(store)
    catalogue.refresh()
    before = catalogue.position
    assert Replica(tmp_path, _DIES_WRITING).end() == -signal.SIGKILL
    assert catalogue.refresh() is None
    assert store.position() == before
    assert store.read_changes(before) == (before, {}, {})
    store.catch_up(log.append([event("room_end", 9, room_id="r1")]))
    assert catalogue.refresh() == ({"r1", "r2"}, {"silk"})
    assert catalogue.available_products("r2") == ["silk"]
    assert catalogue.moments("r2", at_ms=1) == (0, 0, 0)
    assert log.read(after=0, limit=9)[-1].seq == catalogue.position.applied_seq
    store.close()
    log.close()
