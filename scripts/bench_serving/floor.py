"""The work without a server: what a request must cost, as the sum of its parts."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

from scripts.bench_serving.world import Shape

_NUM_CANDIDATES = 10_000
K = 20
"""Items of a slate."""


def floor_handler(bundle: Path, shape: Shape, *, num_candidates: int = _NUM_CANDIDATES) -> Callable[[int], bytes]:
    """Return a function that encodes a history, scores candidates, takes the best twenty and writes JSON.

    Histories and vectors lie ready in memory: no state, no catalogue, no reasons, no products.

    Args:
        bundle: Folder of the bundle.
        shape: Its sizes; histories are full.
        num_candidates: Vectors scored.

    Returns:
        Called with a number that chooses the history.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(bundle / "user_encoder.onnx"), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    length = shape.max_sequence_length
    histories = [
        {
            entry.name: rng.integers(2, 7, size=(1, length), dtype=np.int64)
            if "index" not in entry.name
            else rng.integers(2, 200, size=(1, length), dtype=np.int64)
            for entry in session.get_inputs()
        }
        for _ in range(64)
    ]
    candidates = rng.standard_normal((num_candidates, shape.embedding_dim), dtype=np.float32)

    def answer(number: int) -> bytes:
        (vectors,) = session.run(None, histories[number % len(histories)])
        scores = candidates @ vectors[0]
        best = np.argpartition(scores, num_candidates - K)[num_candidates - K :]
        best = best[np.argsort(-scores[best])]
        items = [
            {
                "room_id": f"r{row}",
                "streamer_id": f"s{row}",
                "score": float(scores[row]),
                "position": nth,
                "products": [],
            }
            for nth, row in enumerate(best.tolist())
        ]
        return orjson.dumps({"request_id": "floor", "items": items})

    return answer


def time_in_process(answer: Callable[[int], Any], *, seconds: float, warmup: int = 200) -> dict[str, float]:
    """Call a handler again and again.

    Returns:
        p50 and p99 in milliseconds.
    """
    for number in range(warmup):
        answer(number)
    took: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        answer(len(took))
        took.append(time.perf_counter() - began)
    p50, p99 = (round(float(np.percentile(took, each)) * 1e3, 4) for each in (50, 99))
    return {"p50_ms": p50, "p99_ms": p99}


def time_handler(registry: Path, data: Path, *, seconds: float, num_viewers: int = 500) -> dict[str, float]:
    """Time RoomRec's own work on a request without HTTP, from the body to the bytes of the answer."""
    from serving.api.metrics import Metrics
    from serving.api.routes.recommendations import recommend
    from serving.deployments.endpoint import Endpoint
    from serving.settings import Settings

    endpoint = Endpoint.open(Settings(registry=str(registry), data=str(data)))
    metrics = Metrics()
    bodies = [orjson.dumps({"user_id": f"u{viewer}", "k": K}) for viewer in range(num_viewers)]

    def answer(number: int) -> bytes:
        return recommend(bodies[number % num_viewers], endpoint, metrics).body

    async def measure() -> dict[str, float]:
        await endpoint.start()
        try:
            return time_in_process(answer, seconds=seconds, warmup=2 * num_viewers)
        finally:
            await endpoint.close()

    return asyncio.run(measure())
