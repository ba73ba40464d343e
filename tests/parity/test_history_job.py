"""The whole way: what the preprocessing job writes for each user equals what serving's state gives."""

import random
from pathlib import Path
from typing import Any

import numpy as np

from roomrec.events.validation import Rejection, validate_event
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import unpack_user, user_history
from serving.state.sqlite_event_log import SqliteEventLog
from tests.runs import preprocess_events

DAY_MS = 86_400_000
FIRST_DAY_MS = 1_767_225_600_000  # 2026-01-01
TYPES = ("enter", "watch", "like", "follow", "product_click", "order", "impression", "leave", "order_of_nobody")


def arrivals(seed: int) -> list[dict[str, Any]]:
    """Viewer events of three days in order of arrival: late, repeated, broken, and with clocks that are fast."""
    rng = random.Random(seed)
    events = []
    for number in range(600):
        occurred_at_ms = FIRST_DAY_MS + rng.randrange(3 * DAY_MS) // 60_000 * 60_000
        delay_ms = rng.choice([-300_000, 0, 1_000, DAY_MS, -3_600_000])
        events.append(
            {
                "event_id": f"e{rng.randrange(500)}",
                "event_type": rng.choice(TYPES),
                "occurred_at_ms": occurred_at_ms,
                "received_at_ms": occurred_at_ms + delay_ms,
                "user_id": rng.choice(["ann", "bob", "cy", "dee"]),
                "room_id": rng.choice(["r1", "r2"]),
                "streamer_id": rng.choice(["mia", "tom", None]),
                "product_id": rng.choice(["silk", "wool", None]),
                "watch_time_ms": rng.choice([None, 900, 50_000, -1]),
            }
        )
        if number % 7 == 0:
            events.append(events[-1] | {"received_at_ms": events[-1]["received_at_ms"] + 60_000, "user_id": "bob"})
    return sorted(events, key=lambda event: event["received_at_ms"])


def test_the_job_and_the_state_agree_on_every_user(tmp_path: Path) -> None:
    arrived = arrivals(seed=1)
    offline = preprocess_events(tmp_path, arrived, validation_from="2026-01-02", test_from="2026-01-03")

    log = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", log, history_limit=1_000, map_bytes=1 << 26)
    for fields in arrived:
        event = validate_event(fields, received_at_ms=fields["received_at_ms"])
        if not isinstance(event, Rejection):
            log.append([{name: value for name, value in event.items() if value is not None}])
            store.catch_up()
    flat = offline.histories
    assert len(flat.user_index) == 4
    for row, user_index in enumerate(flat.user_index.tolist()):
        _, user = store.read_user(offline.vocabulary.decode("user", user_index))
        online = user_history(unpack_user(user), offline.vocabulary)
        rows = slice(flat.offsets[row], flat.offsets[row + 1])
        assert len(online.event_type) > 20
        for name in ("occurred_at_ms", "event_type", "streamer_index", "product_index", "watch_time_bucket"):
            np.testing.assert_array_equal(getattr(online, name), getattr(flat, name)[rows], name)
    store.close()
    log.close()
