"""Where the time of one request goes, stage by stage, in process."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from scripts.bench_serving.floor import K
from scripts.bench_serving.world import Shape
from serving.api import messages
from serving.api.metrics import Metrics
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings


def time_stages(registry: Path, data: Path, *, times: int = 1_000) -> dict[str, float]:
    """Time each stage of a feed for a viewer of 50 events, alone and again and again.

    Alone a stage finds the processor's caches warm; together they take a little more than their sum.

    Returns:
        Median microseconds by stage; those that begin with ``whole`` are of everything.
    """
    settings = Settings(registry=str(registry), data=str(data))
    return asyncio.run(_time_stages(Endpoint.open(settings), times))


async def _time_stages(endpoint: Endpoint, times: int) -> dict[str, float]:
    await endpoint.start()
    try:
        body = orjson.dumps({"user_id": "u1", "surface": "room_feed", "k": K})
        query = Query("u1", "room_feed", K)
        slate = endpoint.recommend(query)
        recommender, catalogue, metrics = endpoint._recommender, endpoint.catalogue, Metrics()
        _, packed = endpoint._store.read_user("u1")
        viewer = endpoint._viewers.viewer("u1", packed)
        loaded = endpoint.models.choose("u1")
        if viewer is None or loaded is None:
            raise RuntimeError("there is no viewer u1, or no model")
        model = loaded.model
        vector = model.encode_viewer(viewer)
        asked = recommender._asked(query, viewer, model, recommender.popular.of(model), vector, False)
        if vector is None:
            raise RuntimeError("the model can read nothing of viewer u1")
        hits = model.rooms.search(vector, k=K)
        rooms = [catalogue.rooms[room_id] for room_id in hits.ids]
        chosen = list(zip(rooms, hits.scores.tolist(), strict=True))
        products = recommender._products
        best = products.best(rooms, model, vector, without=frozenset(), k=3)

        def encode_anew() -> None:
            model.encoders.viewers.forget("u1")
            model.encode_viewer(viewer)

        stages: dict[str, Callable[[], Any]] = {
            "validate": lambda: messages.RecommendationRequest.model_validate_json(body),
            "read state": lambda: endpoint._store.read_user("u1"),
            "recognise viewer": lambda: endpoint._viewers.viewer("u1", packed),
            "encode, nothing new": lambda: model.encode_viewer(viewer),
            f"encode {Shape().max_sequence_length} events anew": encode_anew,
            "score rooms, take the best": lambda: model.rooms.search(vector, k=K),
            "rank products of each": lambda: products.best(rooms, model, vector, without=frozenset(), k=3),
            "show products, with reasons": lambda: [
                products.cards(*pair, model, asked.facts) for pair in zip(rooms, best, strict=True)
            ],
            "whole cards: products ranked and shown, rooms with reasons": lambda: recommender._room_cards(
                asked, chosen
            ),
            "log the slate": lambda: endpoint.slate_log.append(query, slate, 1_800_000_000_000),
            "count": lambda: metrics.count_request("/v1/recommendations", 200, 0.001),
            "write JSON": lambda: orjson.dumps(slate._asdict()),
            "whole request": lambda: endpoint.recommend(query),
        }
        return {name: _median_us(work, times) for name, work in stages.items()}
    finally:
        await endpoint.close()


def _median_us(work: Callable[[], Any], times: int) -> float:
    for _ in range(times // 10):
        work()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return round(float(np.median(took)) * 1e6, 1)
