"""What the generator itself can do and costs, against a server that does nothing, each on a core of its own.

    .venv/bin/python -m scripts.load_serving.own_cost

The last line is one JSON object: requests a second that it drives in closed loop, how late it sends in open loop, CPU
time of a request alone, and of one request of the whole mix with its ten events, bookkeeping and checks.
"""

import asyncio
import json
import multiprocessing
import os
import sys
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any, Final

import orjson
import uvloop

from scripts.load_serving.connections import Target
from scripts.load_serving.evening import run
from scripts.load_serving.generator import build_request, closed_loop, open_loop
from scripts.load_serving.options import read_options

_ITEM: Final = {
    "room_id": "some-room",
    "streamer_id": "some-host",
    "product_id": None,
    "category": "category 7",
    "title": "Some host tonight",
    "score": 0.1234567,
    "propensity": 1.0,
    "reasons": [],
    "products": [{"product_id": f"some-product-{number}"} for number in range(3)],
}
_SLATE: Final = {"request_id": "q", "model_version": "m", "variant": "champion", "degraded": None, "items": [_ITEM] * 8}


class Trivial(asyncio.Protocol):
    """Answers as soon as it can, with ready bytes or the ids it was sent."""

    ready = orjson.dumps(_SLATE)

    def connection_made(self, transport: Any) -> None:
        """Take a connection."""
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        self._data += data
        head, _, body = self._data.partition(b"\r\n\r\n")
        if len(body) < int(head.rpartition(b"content-length: ")[2]):
            return
        self._data = b""
        if head.startswith(b"POST /v1/events"):
            results = [{"event_id": event["event_id"], "status": "accepted"} for event in orjson.loads(body)]
            said = orjson.dumps({"results": results})
        else:
            said = self.ready
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))


def serve(port: Connection, core: int) -> None:
    """Listen until the process is ended.

    Args:
        port: Gets the chosen port.
        core: Where to run.
    """
    os.sched_setaffinity(0, {core})

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(listen())


async def measure(target: Target) -> dict[str, Any]:
    """Return all figures of the generator alone."""
    request = build_request(target, "POST", "/v1/recommendations", b'{"user_id": "u1", "surface": "room_feed", "k": 8}')
    found: dict[str, Any] = {"answer_bytes": len(Trivial.ready)}
    for concurrency in (1, 8, 64):
        result = await closed_loop([target], repeat(request), concurrency=concurrency, duration_s=3, warmup_s=0.3)
        served = result.summary()["served"]
        found[f"closed_{concurrency}_rps"] = round(served / result.seconds)
        found[f"closed_{concurrency}_cpu_us"] = round(1e6 * result.cpu_s / (served * 1.1), 1)
    for rate in (1_000, 5_000, 20_000):
        result = await open_loop([target], repeat(request), rate=rate, duration_s=3, warmup_s=0.3)
        summary = result.summary()
        found[f"open_{rate}"] = {
            "latency_ms": {name: summary["latency_ms"][name] for name in ("p50", "p99")},
            "lag_ms": {name: summary["lag_ms"][name] for name in ("p50", "p99")},
            "cpu_us": round(1e6 * result.cpu_s / (summary["served"] * 1.1), 1),
        }
    return found


def main() -> None:
    """Measure and print."""
    cores = sorted(os.sched_getaffinity(0))
    receiving, sending = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(sending, cores[0]), daemon=True)
    server.start()
    target = Target("127.0.0.1", receiving.recv())
    os.sched_setaffinity(0, {cores[-1]})
    try:
        found = uvloop.run(measure(target))
        arguments = f"http://127.0.0.1:{target.port} --rate 1000 --duration 5 --warmup 0 --room-changes-per-second 10"
        evening = uvloop.run(run(read_options([*arguments.split(), "--quiet", "--read-back-share", "0"])))
        mixed = evening["stretches"][0]
        found["mix_1000"] = {
            "posts_rps": mixed["events"]["achieved_rps"],
            "lag_ms": {name: mixed["recommendations"]["lag_ms"][name] for name in ("p50", "p99")},
            "cpu_us_per_recommendation": round(1e6 * evening["generator_cpu_s"] / mixed["recommendations"]["served"]),
        }
    finally:
        server.terminate()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
