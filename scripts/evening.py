"""Play one viewer's evening against a running endpoint, say in words what changed, and measure on the way."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from roomrec.bundle.registry import Registry
from roomrec.events.parquet import read_events
from roomrec.simulator.config import WorldConfig
from roomrec.simulator.world import World

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
OPENING_MINUTES = 30
"""How long the platform runs before the viewer comes, so that something is popular now."""
EVENING_MINUTES = 60
REQUESTS_PER_MINUTE = 8
ENTERS_PER_MINUTE = 20
"""Viewers who look around each minute before."""
OTHER_VIEWERS = 200
"""Viewers whose past is reported too, and who are asked for during the evening."""

console = Console(highlight=False, soft_wrap=True)
say = console.print


class Endpoint:
    """The endpoint as a frontend sees it; remembers what must no longer be shown and counts every breach.

    Args:
        url: Where it listens.
        shift_ms: Added to the simulated clock, so that the simulated evening is now.
    """

    def __init__(self, url: str, *, shift_ms: int) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)
        self._shift_ms = shift_ms
        self._ended: set[str] = set()
        self._sold_out: set[str] = set()
        self.latencies_ms: list[float] = []
        self.ended_rooms_shown = 0
        self.sold_out_products_shown = 0
        self.degraded: Counter[str | None] = Counter()

    def wait_until_ready(self, *, server_pid: int, seconds: float = 120) -> None:
        """Wait for /readyz; stop with a sentence if the server dies or takes too long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if self._http.get("/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if server_pid and not Path(f"/proc/{server_pid}").exists():
                sys.exit("the endpoint stopped before it was ready; its message stands above")
            time.sleep(0.2)
        sys.exit(f"the endpoint was not ready within {seconds:.0f} s")

    def report(self, events: list[dict[str, Any]]) -> Counter[str]:
        """Post events, moved to the present, and return how many were accepted, duplicate or rejected."""
        if not events:
            return Counter()
        moved = [event | {"occurred_at_ms": event["occurred_at_ms"] + self._shift_ms} for event in events]
        answer = self._http.post("/v1/events", json=moved)
        answer.raise_for_status()
        for event in events:
            if event["event_type"] == "room_end":
                self._ended.add(event["room_id"])
            elif event["event_type"] == "stock_changed":
                (self._sold_out.discard if event["stock"] else self._sold_out.add)(event["product_id"])
        return Counter(result["status"] for result in answer.json()["results"])

    def recommend(self, user_id: str, **more: Any) -> dict[str, Any]:
        """Ask for a slate, time it, and check it against what was reported."""
        body = {"user_id": user_id, "k": 10, "surface": "room_feed"} | more
        started = time.perf_counter()
        answer = self._http.post("/v1/recommendations", json=body)
        self.latencies_ms.append(1000 * (time.perf_counter() - started))
        answer.raise_for_status()
        slate: dict[str, Any] = answer.json()
        self.degraded[slate["degraded"]] += 1
        for item in slate["items"]:
            self.ended_rooms_shown += item["room_id"] in self._ended
            shown = [product["product_id"] for product in item["products"]]
            self.sold_out_products_shown += sum(name in self._sold_out for name in [*shown, item.get("product_id")])
        return slate


def champion_parity(registry: Path) -> float:
    """Return the largest difference between torch and ONNX that was found when the champion was exported."""
    bundles = Registry(registry)
    champion = bundles.channel("champion")
    if champion is None:
        sys.exit(f"{registry} has no champion: run scripts/demo")
    return float(json.loads((bundles.path(champion) / "parity.json").read_text())["max_abs_diff"])


def past_events(log: Path, user_ids: list[str]) -> list[dict[str, Any]]:
    """Return what the log says of some viewers, as events to post, in order of time."""
    events = []
    wanted = pa.array(user_ids)
    for table in read_events(log):
        for row in table.filter(pc.is_in(table["user_id"], value_set=wanted)).to_pylist():
            event = {name: value for name, value in row.items() if value is not None and name != "received_at_ms"}
            events.append(event | {"context": dict(row["context"] or ())})
    return sorted(events, key=lambda event: event["occurred_at_ms"])


def regular_viewer(log: Path, live: set[str], *, but: set[str]) -> str:
    """Choose the viewer who entered most rooms of hosts that are live now, among those with orders, ``but`` these."""
    enters: Counter[str] = Counter()
    buyers: set[str] = set()
    for table in read_events(log):
        kinds = table["event_type"].cast("string")
        entered = table.filter(pc.equal(kinds, "enter"))
        pairs = zip(entered["user_id"].to_pylist(), entered["streamer_id"].to_pylist(), strict=True)
        enters.update(user for user, streamer in pairs if streamer in live)
        buyers.update(table.filter(pc.equal(kinds, "order"))["user_id"].to_pylist())
    return max((user for user in enters if user in buyers - but), key=lambda user: (enters[user], user))


def show(slate: dict[str, Any], world: World, at_ms: int, user_id: str, *, top: int = 5) -> None:
    """Print the top of a slate with its reasons and its true place among everything live."""
    live = [room.room_id for room in world.live_rooms(at_ms)]
    order = np.argsort(-world.true_utility(user_id, live, at_ms))
    place = {live[index]: rank for rank, index in enumerate(order, start=1)}
    degraded = f"  [yellow]degraded: {slate['degraded']}[/]" if slate["degraded"] else ""
    say(f"   {len(slate['items'])} rooms, model {slate['model_version']}{degraded}")
    for item in slate["items"][:top]:
        reasons = "; ".join(reason["text"] for reason in item["reasons"]) or "-"
        say(
            f"   {item['position'] + 1}. {item['room_id']} {item['title']!r} [{item['category']}] "
            f"{item['score']:+.2f}  true place {place.get(item['room_id'], '-')} of {len(live)}  ({reasons})",
            markup=False,
        )


def rooms_of(slate: dict[str, Any]) -> list[str]:
    """Room ids of a slate, first position first."""
    return [item["room_id"] for item in slate["items"]]


def tell_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Say how a slate differs from the one before."""
    old, new = rooms_of(before), rooms_of(after)
    came = [room for room in new if room not in old]
    went = [room for room in old if room not in new]
    moved = sum(old.index(room) != new.index(room) for room in new if room in old)
    say(f"   -> {len(came)} came {came[:3]}, {len(went)} went {went[:3]}, {moved} changed place")


def play(endpoint: Endpoint, world: World, log: Path, at_ms: int) -> str:
    """Play the evening from ``at_ms`` of the simulated clock; return the viewer's id."""
    rng = np.random.default_rng(1)
    say("\n[bold]The platform is on air[/]: rooms start, list products, sell")
    endpoint.report(world.room_events(at_ms - 12 * HOUR_MS, at_ms - OPENING_MINUTES * MINUTE_MS))
    others = rng.choice(world.viewer_ids(at_ms), size=OTHER_VIEWERS, replace=False).tolist()
    past = past_events(log, others)
    for start in range(0, len(past), 5_000):
        endpoint.report(past[start : start + 5_000])
    for minute in range(-OPENING_MINUTES, 0):
        now = at_ms + minute * MINUTE_MS
        events = world.room_events(now, now + MINUTE_MS)
        live = [room.room_id for room in world.live_rooms(now)]
        for user in rng.choice(others, size=ENTERS_PER_MINUTE):
            slate = rng.choice(live, size=min(6, len(live)), replace=False).tolist()
            response = world.viewer_response(str(user), slate, now, rng)
            events += [event for event in response if event["occurred_at_ms"] < at_ms]
        endpoint.report(events)
    live_rooms = world.live_rooms(at_ms)
    say(f"   {len(live_rooms)} rooms are live")
    viewer = regular_viewer(log, {room.streamer_id for room in live_rooms}, but=set(others))

    say(f"\n[bold]1. Nothing is known of viewer {viewer}[/]: what is popular now")
    first = endpoint.recommend(viewer)
    show(first, world, at_ms, viewer)

    past = past_events(log, [viewer])
    counts = endpoint.report(past)
    again = endpoint.report(past)
    say(
        f"\n[bold]2. Their fortnight is reported[/]: {counts['accepted']} events accepted, {counts['duplicate']} held "
        f"twice by the log; sent again, {again['accepted']} are accepted and {again['duplicate']} are duplicates"
    )
    known = endpoint.recommend(viewer)
    show(known, world, at_ms, viewer)
    tell_change(first, known)

    room = next(room for room in live_rooms if room.room_id == rooms_of(known)[0])
    product = next(product for product in room.products if product.stock)
    visit = {"user_id": viewer, "room_id": room.room_id, "streamer_id": room.streamer_id}
    bought = visit | {"product_id": product.product_id}
    say(f"\n[bold]3. They enter {room.room_id}, watch two minutes, like, and order {product.product_id}[/]")
    endpoint.report(
        [
            visit | {"event_id": "demo-1", "event_type": "enter", "occurred_at_ms": at_ms},
            visit | {"event_id": "demo-2", "event_type": "like", "occurred_at_ms": at_ms + 1},
            bought | {"event_id": "demo-3", "event_type": "product_click", "occurred_at_ms": at_ms + 2},
            bought | {"event_id": "demo-4", "event_type": "order", "occurred_at_ms": at_ms + 3, "quantity": 1},
            visit
            | {"event_id": "demo-5", "event_type": "watch", "occurred_at_ms": at_ms + 4, "watch_time_ms": 120_000},
        ]
    )
    after = endpoint.recommend(viewer)
    show(after, world, at_ms, viewer)
    tell_change(known, after)

    say(f"\n[bold]4. {product.product_id} sells out[/]")
    shelf = endpoint.recommend(viewer, surface="room_products", room_id=room.room_id, k=50)
    endpoint.report(
        [
            {
                "event_id": "demo-6",
                "event_type": "stock_changed",
                "occurred_at_ms": at_ms + 5,
                "product_id": product.product_id,
                "room_id": room.room_id,
                "stock": 0,
            }
        ]
    )
    emptier = endpoint.recommend(viewer, surface="room_products", room_id=room.room_id, k=50)
    say(
        f"   products offered in {room.room_id}: {len(shelf['items'])} before, {len(emptier['items'])} after; "
        f"the best now: {emptier['items'][0]['product_id'] if emptier['items'] else 'none'}"
    )

    say(f"\n[bold]5. {room.room_id} ends[/]")
    endpoint.report(
        [{"event_id": "demo-7", "event_type": "room_end", "occurred_at_ms": at_ms + 6, "room_id": room.room_id}]
    )
    ended = endpoint.recommend(viewer)
    show(ended, world, at_ms, viewer, top=3)
    tell_change(after, ended)
    gone = endpoint.recommend(viewer, surface="room_products", room_id=room.room_id)
    say(f"   its products: {len(gone['items'])}, degraded: {gone['degraded']}")

    say("\n[bold]6. A host nobody has ever seen starts a room of that kind[/]: its vector comes from what it is")
    started = time.perf_counter()
    endpoint.report(
        [
            {
                "event_id": "demo-8",
                "event_type": "room_start",
                "occurred_at_ms": at_ms + 7,
                "room_id": "demo-room",
                "streamer_id": "demo-host",
                "context": {"category": room.category, "title": room.title, "attributes": room.attributes},
            }
        ]
    )
    everything = rooms_of(endpoint.recommend(viewer, k=200))
    say(
        f"   {1000 * (time.perf_counter() - started):.0f} ms after it was sent it is at place "
        f"{everything.index('demo-room') + 1} of {len(everything)}"
    )

    say(f"\n[bold]7. The evening goes on[/]: {EVENING_MINUTES} simulated minutes of rooms, stock and other viewers")
    for minute in range(EVENING_MINUTES):
        now = at_ms + minute * MINUTE_MS
        events = [
            event
            for event in world.room_events(now, now + MINUTE_MS)
            if event["room_id"] != room.room_id and event.get("product_id") != product.product_id
        ]
        endpoint.report(events)
        for user in rng.choice(others, size=REQUESTS_PER_MINUTE):
            slate = endpoint.recommend(str(user))
            shown = [name for name in rooms_of(slate) if name != "demo-room"]
            response = world.viewer_response(str(user), shown, now, rng, request_id=slate["request_id"])
            endpoint.report([event for event in response if event["occurred_at_ms"] < now + MINUTE_MS])
    return viewer


def main() -> None:
    """Read the arguments, play, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--demo", type=Path, default=Path("data/demo"), help="folder scripts/demo wrote")
    parser.add_argument("--started", type=float, default=time.time(), help="when the demo began, epoch seconds")
    parser.add_argument("--server-pid", type=int, default=0, help="give up when this process is gone")
    parser.add_argument("--output", type=Path, help="file for the figures, one JSON object; default standard output")
    arguments = parser.parse_args()
    config = WorldConfig(**json.loads((arguments.demo / "truth" / "world.json").read_text()))
    world = World(config)
    at_ms = config.end_at_ms + 20 * HOUR_MS + 30 * MINUTE_MS
    shift_ms = int(time.time() * 1000) - at_ms - EVENING_MINUTES * MINUTE_MS
    endpoint = Endpoint(arguments.url, shift_ms=shift_ms)
    endpoint.wait_until_ready(server_pid=arguments.server_pid)
    viewer = play(endpoint, world, arguments.demo / "events", at_ms)

    say("\n[bold]Try it[/]")
    say(
        f"""   curl -s {arguments.url}/v1/recommendations -H 'content-type: application/json' \\
     -d '{{"user_id": "{viewer}", "k": 3}}'
   curl -s {arguments.url}/v1/events -H 'content-type: application/json' \\
     -d '{{"event_id": "mine-1", "event_type": "follow", "user_id": "{viewer}", "streamer_id": "s00001",
          "occurred_at_ms": {int(time.time() * 1000)}}}'
   curl -s {arguments.url}/v1/users/{viewer}
   curl -s {arguments.url}/metrics        and {arguments.url}/docs in a browser""",
        markup=False,
    )
    report = json.loads((arguments.demo / "reports" / "demo" / "metrics.json").read_text())["summary"]
    latencies = np.array(endpoint.latencies_ms)
    figures = {
        "ndcg@10": round(report["ndcg@10"], 4),
        "popularity_ndcg@10": round(report["popularity_ndcg@10"], 4),
        "item_knn_ndcg@10": round(report["item_knn_ndcg@10"], 4),
        "parity_max_abs_diff": champion_parity(arguments.demo / "registry"),
        "requests": len(latencies),
        "p50_ms": round(float(np.percentile(latencies, 50)), 2),
        "p95_ms": round(float(np.percentile(latencies, 95)), 2),
        "ended_rooms_shown": endpoint.ended_rooms_shown,
        "sold_out_products_shown": endpoint.sold_out_products_shown,
        "degraded": {str(code): count for code, count in endpoint.degraded.items()},
        "seconds": round(time.time() - arguments.started, 1),
    }
    line = json.dumps(figures)
    if arguments.output is None:
        sys.stdout.write(line + "\n")
    else:
        arguments.output.write_text(line + "\n")
    say(f"\n{len(latencies)} requests, p50 {figures['p50_ms']} ms, p95 {figures['p95_ms']} ms as the client sees them")
    if endpoint.ended_rooms_shown or endpoint.sold_out_products_shown:
        sys.exit("something was shown that must not be: see ended_rooms_shown and sold_out_products_shown")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
