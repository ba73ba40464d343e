"""Whatever arrives in whatever order: what is shown is exactly what a naive reading of all events says is there."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings
from serving.state.live_catalogue import LiveCatalogue

NOW_MS = 1_800_000_000_000
ROOMS = ("r1", "r2", "r3")
PRODUCTS = ("silk", "drill", "unheard-of")


@dataclass
class Naive:
    """All events ever accepted, asked anew each time."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, event: dict[str, Any]) -> None:
        self.events.setdefault(event["event_id"], event)

    def of(self, *types: str, **columns: str) -> list[dict[str, Any]]:
        chosen = [
            event
            for event in self.events.values()
            if event["event_type"] in types and all(event.get(name) == value for name, value in columns.items())
        ]
        return sorted(chosen, key=lambda event: (event["occurred_at_ms"], event["event_id"]))

    def live_rooms(self) -> set[str]:
        return {room for room in ROOMS if self.of("room_start", room_id=room) and not self.of("room_end", room_id=room)}

    def products(self, room: str) -> set[str]:
        shown = set()
        for product in PRODUCTS:
            listings = self.of("product_listed", "product_unlisted", room_id=room, product_id=product)
            stocks = [
                event
                for event in self.of("product_listed", "product_unlisted", "stock_changed", product_id=product)
                if event.get("stock") is not None
            ]
            is_listed = bool(listings) and listings[-1]["event_type"] == "product_listed"
            if is_listed and not (stocks and stocks[-1]["stock"] == 0):
                shown.add(product)
        return shown if room in self.live_rooms() else set()


room_events = st.builds(
    lambda kind, event_id, seconds, room, product, stock: (
        {
            "event_id": event_id,
            "event_type": kind,
            "occurred_at_ms": NOW_MS - 100_000 + seconds * 1_000,
            "room_id": room,
            "streamer_id": "mia",
            "product_id": product,
        }
        | ({} if stock is None else {"stock": stock})
        | ({"stock": stock or 0} if kind == "stock_changed" else {})
    ),
    st.sampled_from(
        [
            "room_start",
            "room_start",
            "product_listed",
            "product_listed",
            "product_unlisted",
            "stock_changed",
            "room_end",
        ]
    ),
    st.integers(0, 60).map(lambda number: f"e{number}"),
    st.integers(0, 12),
    st.sampled_from(ROOMS),
    st.sampled_from(PRODUCTS),
    st.sampled_from([None, 0, 3]),
)
viewer_events = st.builds(
    lambda kind, number, room: {
        "event_id": f"v{number}",
        "event_type": kind,
        "occurred_at_ms": NOW_MS - number,
        "room_id": room,
        "streamer_id": "mia",
        "user_id": "u1",
    },
    st.sampled_from(["enter", "like"]),
    st.integers(0, 1_000),
    st.sampled_from(ROOMS),
)


def shown(endpoint: Endpoint, user_id: str) -> dict[str, set[str]]:
    """Ask for everything, on both surfaces, and check that they agree."""
    feed = endpoint.recommend(Query(user_id, "room_feed", 100)).items
    rooms = {}
    for item in feed:
        slate = endpoint.recommend(Query(user_id, "room_products", 100, item["room_id"]))
        rooms[item["room_id"]] = {product["product_id"] for product in slate.items}
        assert {product["product_id"] for product in item["products"]} <= rooms[item["room_id"]]
        assert len(item["products"]) == min(3, len(rooms[item["room_id"]]))
    for room in ROOMS:
        if room not in rooms:
            assert endpoint.recommend(Query(user_id, "room_products", 100, room)).degraded == "room_not_live"
    assert len(rooms) == len(feed)
    return rooms


@settings(max_examples=40, deadline=None)
@given(posts=st.lists(st.lists(room_events | viewer_events, max_size=8), max_size=12))
@pytest.mark.parametrize("user_id", ["u1", "stranger"])
def test_shown_is_what_is_there(registry_path: Path, user_id: str, posts: list[list[dict[str, Any]]]) -> None:
    async def play(folder: str) -> None:
        endpoint = Endpoint.open(Settings(registry=str(registry_path), data=folder), now_ms=lambda: NOW_MS)
        naive = Naive()
        lagging = LiveCatalogue(endpoint._store)
        for place, events in enumerate(posts):
            await endpoint.post(events)
            for event in events:
                naive.add(event)
            assert shown(endpoint, user_id) == {room: naive.products(room) for room in naive.live_rooms()}
            if place % 3 == 0:
                lagging.refresh()
        lagging.refresh()
        assert {room: set(lagging.available_products(room)) for room in lagging.rooms} == shown(endpoint, user_id)
        assert set(endpoint.model.rooms.ids) == naive.live_rooms()
        await endpoint.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(folder))
