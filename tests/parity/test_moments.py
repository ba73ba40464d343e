"""Moments the state keeps while events arrive equal those worked out from the log afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomrec.events.schema import EVENT_SCHEMA
from roomrec.events.validation import validate_event
from roomrec.features.moments import MOMENT_EVENT_TYPES, moments_as_of
from roomrec.simulator.config import WorldConfig
from roomrec.simulator.world import World
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog

TYPES = (*MOMENT_EVENT_TYPES, "room_start", "room_end")


def arrivals(*, is_prompt: bool) -> list[dict[str, Any]]:
    """An evening's events as they arrive: at once, or after the delays and with the fast clocks of a real one."""
    config = WorldConfig(
        num_days=1, num_viewers=6_000, num_streamers=12, late_rate=0.0, skew_rate=0.0 if is_prompt else 0.02
    )
    rows = [row for table in World(config).days() for row in table.to_pylist() if row["event_type"] in TYPES]
    evening = [
        row | {"context": None, "received_at_ms": row["occurred_at_ms"] if is_prompt else row["received_at_ms"]}
        for row in rows
        if row["room_id"] is not None
    ]
    events = [validate_event(row, received_at_ms=row["received_at_ms"]) for row in evening]
    return sorted((event for event in events if isinstance(event, dict)), key=lambda event: event["received_at_ms"])


@pytest.mark.parametrize("is_prompt", [True, False])
def test_the_state_and_the_log_agree(tmp_path: Path, is_prompt: bool) -> None:
    arrived = arrivals(is_prompt=is_prompt)
    assert len(arrived) > 1_000
    log = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", log, history_limit=5, map_bytes=1 << 26)
    now_s = 0.0
    catalogue = LiveCatalogue(store, clock=lambda: now_s)
    asked: list[tuple[str, int]] = []
    online: list[tuple[int, ...]] = []
    known: dict[str, dict[str, Any]] = {}
    started_at: dict[str, int] = {}
    offline = []
    for place in range(0, len(arrived), 40):
        at_ms = arrived[place]["received_at_ms"]
        catalogue.refresh()
        now_s += 1.0
        if place % 200 == 0:
            rooms = sorted(catalogue.rooms)
            asked += [(room_id, at_ms) for room_id in rooms]
            online += [catalogue.moments(room_id, at_ms=at_ms) for room_id in rooms]
            offline += worked_out(list(known.values()) if not is_prompt else arrived, started_at, rooms, at_ms)
        for event in arrived[place : place + 40]:
            if event["event_type"] == "room_start":
                started_at.setdefault(event["room_id"], len(known))
            known.setdefault(event["event_id"], event | {"place": len(known)})
        store.catch_up(log.append([_given(event) for event in arrived[place : place + 40]]))
    assert len(asked) > 50
    assert sum(map(sum, online)) > 50
    assert [tuple(moment) for moment in online] == offline
    store.close()
    log.close()


def worked_out(
    events: list[dict[str, Any]], started_at: dict[str, int], rooms: list[str], at_ms: int
) -> list[tuple[int, ...]]:
    """What the function for logs says; an event that came before its room's start is not counted online either."""
    counted = [
        event
        for event in events
        if event["event_type"] in MOMENT_EVENT_TYPES
        and event["room_id"] in rooms
        and event.get("place", at_ms) > started_at[event["room_id"]]
    ]
    found = moments_as_of(
        np.array([rooms.index(event["room_id"]) for event in counted], dtype=np.int64),
        np.array([MOMENT_EVENT_TYPES.index(event["event_type"]) for event in counted], dtype=np.int64),
        np.array([event["occurred_at_ms"] for event in counted], dtype=np.int64),
        asked_room=np.arange(len(rooms)),
        asked_at_ms=np.full(len(rooms), at_ms),
    )
    return [tuple(row) for row in found.tolist()]


def _given(event: dict[str, Any]) -> dict[str, Any]:
    return {name: event[name] for name in EVENT_SCHEMA.names if event[name] is not None}
