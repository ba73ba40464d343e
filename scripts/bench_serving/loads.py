"""Loads of the benchmark: requests of viewers by turns, closed or open loop, alone or with events beside."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import count, cycle
from typing import Any, Final, NamedTuple

import uvloop

from scripts.bench_serving.floor import K
from scripts.load_serving.connections import Target
from scripts.load_serving.generator import Result, build_request, closed_loop, open_loop

EVENTS_A_BODY: Final = 10
WARMUP_S: Final = 1.0


class Loads(NamedTuple):
    """How to ask one server."""

    port: int
    num_viewers: int
    seconds: float
    seed: int
    num_rooms: int

    @property
    def target(self) -> Target:
        """Where it listens."""
        return Target("127.0.0.1", self.port)

    def closed(self, concurrency: int) -> dict[str, Any]:
        """Keep so many requests under way."""
        load = closed_loop(
            [self.target], self._slates(), concurrency=concurrency, duration_s=self.seconds, warmup_s=WARMUP_S
        )
        return _brief(uvloop.run(load))

    def open(self, rate: float) -> dict[str, Any]:
        """Ask at the instants of a Poisson process."""
        return _brief(uvloop.run(self._open(self._slates(), rate)))

    def open_with_events(self, rate: float) -> dict[str, Any]:
        """Ask as ``open``, and post ten events for each slate meanwhile, ten a body."""

        async def both() -> tuple[Result, Result]:
            return await asyncio.gather(self._open(self._slates(), rate), self._open(self._events(), rate, seed=1))

        slates, posts = uvloop.run(both())
        return _brief(slates) | {"posts": _brief(posts), "events_per_s": round(rate * EVENTS_A_BODY)}

    async def _open(self, requests: Iterator[bytes], rate: float, *, seed: int = 0) -> Result:
        return await open_loop(
            [self.target],
            requests,
            rate=rate,
            duration_s=self.seconds,
            warmup_s=WARMUP_S,
            seed=self.seed + seed,
            connections=128,
        )

    def _slates(self) -> Iterator[bytes]:
        return cycle(
            [
                build_request(
                    self.target,
                    "POST",
                    "/v1/recommendations",
                    json.dumps({"user_id": f"u{viewer}", "surface": "room_feed", "k": K}).encode(),
                )
                for viewer in range(self.num_viewers)
            ]
        )

    def _events(self) -> Iterator[bytes]:
        run = f"{self.port}-{time.time_ns():x}"
        for number in count():
            room = number % self.num_rooms
            events = [
                {
                    "event_id": f"{run}-{number}-{nth}",
                    "event_type": "watch",
                    "occurred_at_ms": 1_795_000_000_000 + 10 * number + nth,
                    "user_id": f"u{(number * EVENTS_A_BODY + nth) % self.num_viewers}",
                    "room_id": f"r{room}",
                    "streamer_id": f"s{room % 5_000}",
                    "watch_time_ms": 12_000,
                }
                for nth in range(EVENTS_A_BODY)
            ]
            yield build_request(self.target, "POST", "/v1/events", json.dumps(events).encode())


def _brief(result: Result) -> dict[str, Any]:
    """Keep what is reported, and say where the generator was the limit."""
    found = result.summary()
    kept = ("offered_rps", "achieved_rps", "latency_ms", "refused", "refused_ms", "errors", "generator_limited")
    return {name: found[name] for name in kept} | {"lag_p99_ms": (found["lag_ms"] or {}).get("p99")}
