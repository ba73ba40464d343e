"""The serving benchmark: its world, its floor, and its summary, on the smallest scale."""

import json
from pathlib import Path

import pytest

from scripts.bench_serving.floor import floor_handler, time_handler, time_in_process
from scripts.bench_serving.shops import Shop, make_data
from scripts.bench_serving.stages import time_stages
from scripts.bench_serving.world import Shape, opening_events, write_registry

SHAPE = Shape(embedding_dim=16, max_sequence_length=50, num_products=200)
SHOP = Shop(num_rooms=30, products_per_room=3, num_products=200, num_viewers=5, events_per_viewer=50)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_registry(tmp_path_factory.mktemp("world"), SHAPE)


def test_the_floor_answers_twenty_candidates(registry: Path) -> None:
    bundle = next(registry.rglob("user_encoder.onnx")).parent
    answer = floor_handler(bundle, SHAPE, num_candidates=100)
    slate = json.loads(answer(3))
    scores = [item["score"] for item in slate["items"]]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    timed = time_in_process(answer, seconds=0.05, warmup=5)
    assert 0 < timed["p50_ms"] <= timed["p99_ms"]


def test_every_room_starts_and_lists(registry: Path) -> None:
    events = list(opening_events(num_rooms=3, products_per_room=2, num_products=200))
    assert [event["event_type"] for event in events].count("room_start") == 3
    assert len({event["event_id"] for event in events}) == len(events)


def test_data_are_made_once_and_answer(registry: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path, registry, SHOP)
    made_at = (data / "filled").stat().st_mtime_ns
    assert make_data(tmp_path, registry, SHOP) == data
    assert (data / "filled").stat().st_mtime_ns == made_at
    assert time_handler(registry, data, seconds=0.05, num_viewers=5)["p50_ms"] > 0
    stages = time_stages(registry, data, times=10)
    assert stages["whole request"] > stages["read state"] > 0
