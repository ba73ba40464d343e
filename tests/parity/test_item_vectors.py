"""A room or product that appears online gets the vector that the trained encoder gives it offline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from roomrec.batches.collate import collate_items
from roomrec.bundle import Bundle
from roomrec.events.validation import validate_event
from serving.deployments.serving_model import ServingModel
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from tests.runs import SMALL_SASREC, config_of, preprocess_events, write_run
from training import export
from training.evaluation.trained_run import open_run

DAY_MS = 86_400_000
START_MS = 1_767_312_000_000  # 2026-01-02
MODELS = {
    "sasrec": SMALL_SASREC,
    "two_tower": {"model": "two_tower", "model.embedding_dim": 16, "model.hidden_dim": 16},
}


def evening(day: int, host: str, room_says: str, products: dict[str, str]) -> list[dict[str, Any]]:
    """One room that stays live, what is said of it and of its products, and a viewer in it."""
    at_ms, room = START_MS + day * DAY_MS, f"r{day}"
    events: list[dict[str, Any]] = [
        {"event_type": "room_start", "room_id": room, "streamer_id": host, "context": {"attributes": room_says}}
    ]
    for product, says in products.items():
        context = {"category": "wear", "title": product, "attributes": says}
        events.append({"event_type": "product_listed", "room_id": room, "product_id": product, "context": context})
    events.append({"event_type": "enter", "room_id": room, "streamer_id": host, "user_id": "ann"})
    events.append({"event_type": "order", "room_id": room, "product_id": next(iter(products)), "user_id": "ann"})
    return [each | {"event_id": f"{day}-{place}", "occurred_at_ms": at_ms} for place, each in enumerate(events)]


EVENTS = [
    *evening(0, "mia", "outlet|evening", {"silk": "soft|brand:northwind", "wool": "warm|soft"}),
    *evening(1, "mia", "evening", {"silk": "hard", "felt": "warm|brand:northwind"}),
    *evening(2, "zoe", "outlet|unheard of", {"cup": "soft|hard|brand:northwind"}),
]


@pytest.mark.parametrize("model", ["sasrec", "two_tower"])
def test_attributes_count_the_same_online_and_offline(tmp_path: Path, model: str) -> None:
    dataset = preprocess_events(tmp_path, EVENTS, validation_from="2026-01-03", test_from="2026-01-04")
    assert dataset.vocabulary.ids("attribute").to_pylist() == ["soft", "brand:northwind", "evening", "outlet", "warm"]
    write_run(tmp_path / "data", "run", tmp_path / "out", **MODELS[model])
    trained = open_run(tmp_path / "data" / "runs" / "run", data_dir=tmp_path / "data", dataset=None)
    published = export.run(config_of("export", run="run", data_dir=tmp_path / "data"))

    log = SqliteEventLog(tmp_path / "events.sqlite")
    store = LmdbStateStore(tmp_path / "state", log, history_limit=10, map_bytes=1 << 24)
    accepted = [validate_event(each, received_at_ms=START_MS + 3 * DAY_MS) for each in EVENTS]
    log.append([{name: value for name, value in each.items() if value is not None} for each in accepted])
    store.catch_up()
    catalogue = LiveCatalogue(store)
    catalogue.refresh()
    serving = ServingModel("v1", Bundle.open(published.folder))
    serving.follow(catalogue, room_ids=catalogue.rooms.keys())

    items = np.arange(len(dataset.items.kind))
    with torch.no_grad():
        offline = trained.model.item_encoder.eval()(*collate_items(dataset.items, items)).numpy()
    rooms, products = (dataset.item_rows[name].to_pylist() for name in ("room_id", "product_id"))
    for room in ("r0", "r1", "r2"):
        online = serving.rooms._matrix[serving.rooms._row_of[room]]
        np.testing.assert_allclose(online, offline[rooms.index(room)], atol=1e-6)
    for product in ("silk", "wool", "felt", "cup"):
        np.testing.assert_allclose(serving._product_vector(product), offline[products.index(product)], atol=1e-6)
    # the rooms of mia differ in what was said of them and in what they sold; zoe's host is unknown
    assert np.abs(offline[rooms.index("r0")] - offline[rooms.index("r1")]).max() > 1e-3
    store.close()
    log.close()
