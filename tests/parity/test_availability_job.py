"""The whole way for rooms and products: what is there, and what the item encoder sees, offline and online."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from roomrec.events.validation import validate_event
from roomrec.features.as_of import PRODUCT_KIND, ROOM_KIND
from roomrec.features.items import item_inputs
from roomrec.retrieval.availability import product_facts, room_facts
from roomrec.sequences.dataset import ProcessedDataset
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from tests.runs import preprocess_events

START_MS = 1_767_312_000_000  # 2026-01-02
END_MS = START_MS + 600_000
ROOMS = [f"r{number}" for number in range(12)]
PRODUCTS = [f"p{number}" for number in range(8)]


def arrivals(seed: int) -> list[dict[str, Any]]:
    """Ten minutes of rooms and products in no order at all; a viewer is in every room at the end."""
    rng = random.Random(seed)
    events = []
    for place, room in enumerate(ROOMS):
        context = {"category": rng.choice(["wear", "tools", ""]), "title": rng.choice(["silk night", "big sale"])}
        context |= attributes(rng)
        for _ in range(rng.choice([1, 1, 2])):
            events.append({"event_type": "room_start", "room_id": room, "streamer_id": rng.choice(["mia", "tom"])})
            events[-1] |= {"occurred_at_ms": START_MS + rng.randrange(60) * 1_000, "context": context}
        if place % 3 == 0:
            at_ms = START_MS + rng.randrange(100, 500) * 1_000
            events.append({"event_type": "room_end", "room_id": room, "occurred_at_ms": at_ms})
        events.append({"event_type": "like", "user_id": "ann", "room_id": room, "streamer_id": "mia"})
        events[-1] |= {"occurred_at_ms": END_MS}
    for _ in range(250):
        event = {
            "event_type": rng.choice(["product_listed", "product_listed", "product_unlisted", "stock_changed"]),
            "room_id": rng.choice(ROOMS),
            "product_id": rng.choice(PRODUCTS),
            "occurred_at_ms": START_MS + rng.randrange(500) * 1_000,
            "amount_cents": rng.choice([None, 500, 99_900]),
            "context": {"category": rng.choice(["wear", "tools"])} | attributes(rng),
            "stock": rng.choice([None, 0, 3]),
        }
        if event["event_type"] == "stock_changed":
            event["stock"] = rng.choice([0, 1])
        events.append(event)
    for day in (1, 4):  # the log has to reach into validation and test
        events.append({"event_type": "follow", "user_id": "ann", "streamer_id": "mia"})
        events[-1] |= {"occurred_at_ms": START_MS + day * 86_400_000}
    rng.shuffle(events)
    return [event | {"event_id": f"e{place}"} for place, event in enumerate(events)]


def attributes(rng: random.Random) -> dict[str, str]:
    """Any number of tags, more than the bag holds too, or nothing said of them."""
    tags = [f"tag{number}" for number in range(12)]
    return rng.choice([{}, {"attributes": "|".join(rng.choices(tags, k=rng.randrange(30)))}])


@pytest.mark.parametrize("seed", [1, 2])
def test_the_job_and_the_catalogue_agree(tmp_path: Path, seed: int) -> None:
    arrived = arrivals(seed)
    offline = preprocess_events(tmp_path, arrived, validation_from="2026-01-03T12:00", test_from="2026-01-06")
    spec, vocabulary = offline.spec, offline.vocabulary
    assert 12 <= spec.num_attributes <= 14
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    rooms = {item["room_id"]: item["item_index"] for item in items if item["kind"] == "room"}
    products = {item["product_id"]: item["item_index"] for item in items if item["kind"] == "product"}

    log = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", log, history_limit=10, map_bytes=1 << 26)
    online = LiveCatalogue(store)
    for fields in arrived:
        event = validate_event(fields, received_at_ms=START_MS + 5 * 86_400_000)
        assert isinstance(event, dict)
        log.append([{name: value for name, value in event.items() if value is not None}])
        store.catch_up()
        online.refresh()

    assert {rooms[room] for room in online.rooms} == set(offline.availability.available_at(END_MS, kind=ROOM_KIND))
    assert len(online.rooms) == 8
    for room_id, room in online.rooms.items():
        there = offline.availability.available_at(END_MS, kind=PRODUCT_KIND, room_item_index=rooms[room_id])
        assert {products[product] for product in online.available_products(room_id)} == set(there), room_id
        given = item_inputs([room_facts(room)], vocabulary=vocabulary, spec=spec)
        assert_same_inputs(given, offline, rooms[room_id])
    for product_id, product in online.products.items():
        given = item_inputs([product_facts(product)], vocabulary=vocabulary, spec=spec)
        assert_same_inputs(given, offline, products[product_id])
    store.close()
    log.close()


def assert_same_inputs(given: dict[str, np.ndarray], offline: ProcessedDataset, item_index: int) -> None:
    for name, values in given.items():
        np.testing.assert_array_equal(values[0], getattr(offline.items, name)[item_index], f"{name} of {item_index}")
