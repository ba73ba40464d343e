"""The order of the measurements: every contender in turn, then RoomRec alone under more kinds of load."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from scripts.bench_serving.contenders import running
from scripts.bench_serving.floor import floor_handler, time_handler, time_in_process
from scripts.bench_serving.loads import Loads
from scripts.bench_serving.memory import replica_memory_mb
from scripts.bench_serving.shops import Shop, make_data
from scripts.bench_serving.stages import time_stages
from scripts.bench_serving.world import Shape, write_registry

MAIN: Final = Shop(num_rooms=10_000, products_per_room=5, num_products=50_000)
CONTENDERS: Final = ("roomrec", "roomrec_cold", "bare", "uvicorn", "default_ray")
SHARES: Final = (0.5, 0.7, 0.9, 1.5)
RATE: Final = 1_000.0
COLD: Final = {"ROOMREC_VIEWER_CACHE_BYTES": "0", "ROOMREC_ENCODER_CACHE_BYTES": "0"}


class Measuring:
    """Measures, and keeps data for the next time.

    Args:
        work: Folder for registry and data.
        seconds: Of each measurement.
        rounds: Of all contenders.
        seed: Decides weights and instants.
        say: Told what is being done.
    """

    def __init__(self, work: Path, *, seconds: float, rounds: int, seed: int, say: Callable[[str], None]) -> None:
        self._work = work
        self._seconds = seconds
        self._rounds = rounds
        self._seed = seed
        self._say = say
        self._cores = sorted(os.sched_getaffinity(0))
        if not (work / "registry" / "ready").exists():
            write_registry(work, Shape(), seed=seed)
            (work / "registry" / "ready").touch()
        self._registry = work / "registry"

    def everything(self, *, other_rooms: Sequence[int]) -> dict[str, Any]:
        """Measure all there is.

        Args:
            other_rooms: Numbers of live rooms besides the main one.

        Returns:
            ``summary``, and the figures it was made of.
        """
        data = self._data(MAIN)
        report: dict[str, Any] = {"one_worker": self._by_turns(data)}
        saturation = report["one_worker"]["roomrec"]["c8_rps"]
        report["open_loop"] = self._open_loop(data, saturation)
        report["two_workers"] = {kind: self._saturation(kind, data, workers=2) for kind in ("roomrec", "bare")}
        report["live_rooms"] = {str(rooms): self._size(rooms) for rooms in other_rooms}
        self._say("stages of a request")
        report["stages_us"] = time_stages(self._registry, data)
        report["summary"] = _summary(report)
        return report

    def _by_turns(self, data: Path) -> dict[str, Any]:
        bundle = next(self._registry.rglob("user_encoder.onnx")).parent
        rounds = []
        for nth in range(1, self._rounds + 1):
            self._say(f"round {nth} of {self._rounds}: floor and handler in process")
            found: dict[str, Any] = {
                "floor": time_in_process(floor_handler(bundle, Shape()), seconds=self._seconds),
                "handler": time_handler(self._registry, data, seconds=self._seconds),
            }
            for kind in CONTENDERS:
                self._say(f"round {nth} of {self._rounds}: {kind}")
                with self._started(kind, data, workers=1) as (loads, started):
                    one, eight, many = (loads.closed(concurrency) for concurrency in (1, 8, 32))
                    found[kind] = {
                        **started(),
                        "p50_ms": one["latency_ms"]["p50"],
                        "p99_ms": one["latency_ms"]["p99"],
                        "c8_rps": eight["achieved_rps"],
                        "c32_rps": many["achieved_rps"],
                        "c32_refused": many["refused"],
                    }
            rounds.append(found)
        kinds = ("floor", "handler", *CONTENDERS)
        return {
            kind: {name: _median(each[kind][name] for each in rounds) for name in rounds[0][kind]} for kind in kinds
        }

    def _open_loop(self, data: Path, saturation: float) -> dict[str, Any]:
        self._say(f"open loop at shares of {saturation:.0f} a second")
        with self._started("roomrec", data, workers=1) as (loads, _):
            found = {f"at_{share:.0%}": loads.open(share * saturation) for share in SHARES}
            found["at_1000_per_s"] = loads.open(RATE)
            # a slate, and ten events for it, are the work that is to be at so many per cent
            found["with_events"] = loads.open_with_events(0.25 * saturation)
        return found

    def _saturation(self, kind: str, data: Path, *, workers: int) -> dict[str, Any]:
        self._say(f"{workers} workers: {kind}")
        with self._started(kind, data, workers=workers) as (loads, started):
            loads.closed(8)  # until every replica has met every viewer and most rooms
            return {
                **started(),
                "c8_rps": loads.closed(8)["achieved_rps"],
                "c32_rps": loads.closed(32)["achieved_rps"],
                "at_1000_per_s": loads.open(RATE),
            }

    def _size(self, num_rooms: int) -> dict[str, Any]:
        products_per_room = 10 if num_rooms >= 100_000 else MAIN.products_per_room
        shop = Shop(num_rooms, products_per_room, num_products=max(num_rooms * products_per_room, 50_000))
        self._say(f"{num_rooms} live rooms, {shop.num_products} products: filling")
        data = self._data(shop)
        self._say(f"{num_rooms} live rooms")
        with self._started("roomrec", data, workers=1, shop=shop) as (loads, started):
            return {
                "products": shop.num_products,
                **started(),
                "p50_ms": loads.closed(1)["latency_ms"]["p50"],
                "c8_rps": loads.closed(8)["achieved_rps"],
                "with_events": loads.open_with_events(50.0),
            }

    def _data(self, shop: Shop) -> Path:
        return make_data(self._work, self._registry, shop)

    @contextmanager
    def _started(
        self, kind: str, data: Path, *, workers: int, shop: Shop = MAIN
    ) -> Iterator[tuple[Loads, Callable[[], dict[str, Any]]]]:
        """Start a contender on a core of its own if it has one worker, and let this process have the other."""
        environment = COLD if kind == "roomrec_cold" else {}
        server, generator = (self._cores[:1], self._cores[1:2]) if workers == 1 else (self._cores, self._cores)
        os.sched_setaffinity(0, server)
        try:
            with running(
                kind.removesuffix("_cold"), self._registry, data, workers=workers, environment=environment
            ) as contender:
                os.sched_setaffinity(0, generator or server)
                loads = Loads(contender.port, shop.num_viewers, self._seconds, self._seed, shop.num_rooms)

                def started() -> dict[str, Any]:
                    found: dict[str, Any] = {"ready_s": round(contender.ready_s, 2)}
                    if kind.startswith("roomrec"):
                        found["replica_pss_mb"] = max(replica_memory_mb(contender.pid), default=None)
                    return found

                yield loads, started
        finally:
            os.sched_setaffinity(0, self._cores)


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    one, load = report["one_worker"], report["open_loop"]
    return {
        "floor_p50_ms": one["floor"]["p50_ms"],
        "handler_p50_ms": one["handler"]["p50_ms"],
        "http_p50_ms": one["roomrec"]["p50_ms"],
        "http_cold_p50_ms": one["roomrec_cold"]["p50_ms"],
        "bare_p50_ms": one["bare"]["p50_ms"],
        "uvicorn_p50_ms": one["uvicorn"]["p50_ms"],
        "default_ray_p50_ms": one["default_ray"]["p50_ms"],
        "saturation_rps": one["roomrec"]["c8_rps"],
        "bare_saturation_rps": one["bare"]["c8_rps"],
        "uvicorn_rps": one["uvicorn"]["c8_rps"],
        "default_ray_rps": one["default_ray"]["c8_rps"],
        "saturation_2_workers_rps": report["two_workers"]["roomrec"]["c8_rps"],
        "bare_saturation_2_workers_rps": report["two_workers"]["bare"]["c8_rps"],
        "p99_at_70_ms": load["at_70%"]["latency_ms"]["p99"],
        "p99_at_90_ms": load["at_90%"]["latency_ms"]["p99"],
        "p99_at_150_ms": load["at_150%"]["latency_ms"]["p99"],
        "refused_at_150": load["at_150%"]["refused"],
        "refused_p99_at_150_ms": (load["at_150%"]["refused_ms"] or {}).get("p99"),
        "p99_with_events_ms": load["with_events"]["latency_ms"]["p99"],
        "p99_at_1000_per_s_ms": load["at_1000_per_s"]["latency_ms"]["p99"],
        "ready_s": one["roomrec"]["ready_s"],
        "replica_pss_mb": one["roomrec"]["replica_pss_mb"],
    }


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 4) if known else None
