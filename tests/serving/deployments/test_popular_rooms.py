"""What is popular stays in order while rooms come and go."""

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roomrec.retrieval.availability import RoomRecord
from serving.deployments.popular_rooms import PopularRooms
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from tests.serving.evening import enter, event, opening, start
from tests.serving.shop import NOW_MS

BEFORE = {"mia": 50.0, "tom": 90.0}


class Evening:
    """A catalogue that follows a log."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteEventLog(folder / "events.sqlite")
        self.store = LmdbStateStore(folder / "state", self.log, history_limit=20, map_bytes=1 << 24)
        self.now_s = 0.0
        self.catalogue = LiveCatalogue(self.store, clock=lambda: self.now_s)

    def happens(self, *events: dict[str, Any]) -> frozenset[str]:
        self.log.append([{"received_at_ms": each["occurred_at_ms"]} | each for each in events])
        self.store.catch_up()
        self.now_s += 1.0
        changes = self.catalogue.refresh()
        return frozenset() if changes is None else changes.room_ids


@pytest.fixture
def evening(tmp_path: Path) -> Iterator[Evening]:
    evening = Evening(tmp_path)
    yield evening
    evening.store.close()
    evening.log.close()


def ranked(popular: PopularRooms) -> list[str]:
    return [room_id for room_id, _ in popular.ranked()]


def test_what_draws_now_then_what_drew_before(evening: Evening) -> None:
    evening.happens(*opening(), *(enter(f"u{nth}", "quiet-room", "zoe") for nth in range(4)))
    popular = PopularRooms(evening.catalogue, BEFORE)
    popular.make(at_ms=NOW_MS)
    assert ranked(popular) == ["quiet-room", "tool-room", "scarf-room"]
    assert popular.crowded == {"quiet-room"}


def test_a_room_that_starts_has_its_place_at_once_and_one_that_ends_has_none(evening: Evening) -> None:
    evening.happens(*opening())
    popular = PopularRooms(evening.catalogue, BEFORE)
    popular.make(at_ms=NOW_MS)
    popular.follow(evening.happens(start("tool-room-2", "tom"), event("room_end", room_id="tool-room")))
    assert ranked(popular) == ["tool-room-2", "scarf-room", "quiet-room"]
    popular.follow(["tool-room-2", "never-heard-of"])
    assert ranked(popular) == ["tool-room-2", "scarf-room", "quiet-room"]


def test_in_pieces_it_is_the_same_order_and_rooms_that_start_meanwhile_are_in_it(evening: Evening) -> None:
    evening.happens(*opening(), *(start(f"room-{nth}", "mia") for nth in range(1_200)))
    popular = PopularRooms(evening.catalogue, BEFORE)
    assert popular.is_due

    async def make() -> None:
        making = asyncio.create_task(popular.make_in_pieces(at_ms=NOW_MS))
        await asyncio.sleep(0)
        popular.follow(evening.happens(start("late", "tom")))
        await making

    asyncio.run(make())
    in_pieces = ranked(popular)
    assert not popular.is_due
    popular.make(at_ms=NOW_MS)
    assert in_pieces == ranked(popular)
    assert in_pieces[:2] == ["late", "tool-room"]
    assert len(in_pieces) == 1_204


def test_a_thousand_rooms_that_start_at_once_are_placed_in_pieces_each_once(evening: Evening) -> None:
    evening.happens(*opening())
    popular = PopularRooms(evening.catalogue, BEFORE)
    popular.make(at_ms=NOW_MS)
    popular.follow(evening.happens(*(start(f"room-{nth}", "tom") for nth in range(1_000))))
    assert len(ranked(popular)) == 3 + 250
    popular.follow(["room-1", "room-999", "tool-room"])
    asyncio.run(popular.place_waiting())
    assert sorted(ranked(popular)) == sorted(evening.catalogue.rooms)
    assert ranked(popular)[0] == "room-0"
    popular.follow(evening.happens(event("room_end", room_id="room-0")))
    assert ranked(popular)[0] == "room-1"


def test_the_first_order_is_made_while_rooms_start_and_change(evening: Evening) -> None:
    evening.happens(*(start(f"room-{nth}", "mia") for nth in range(1_200)))
    popular = PopularRooms(evening.catalogue, BEFORE)

    async def make() -> None:
        making = asyncio.create_task(popular.make_in_pieces(at_ms=NOW_MS))
        await asyncio.sleep(0)
        assert not popular.is_due
        popular.follow(["room-3", "room-1100"])
        popular.follow(evening.happens(start("late", "tom"), event("room_end", room_id="room-1150")))
        await making

    asyncio.run(make())
    assert ranked(popular)[0] == "late"
    assert sorted(ranked(popular)) == sorted(evening.catalogue.rooms)


def test_the_order_of_many_crowded_rooms_ends_without_a_long_piece() -> None:
    class Many:
        def __init__(self) -> None:
            room_ids = [f"room-{nth:06}" for nth in range(100_000)]
            self.rooms = {room_id: RoomRecord(room_id, streamer_id=f"s{room_id[-3:]}") for room_id in room_ids}

        def enters(self, *, at_ms: int, room_ids: list[str]) -> dict[str, float]:
            return {room_id: float(int(room_id[5:]) % 97) for room_id in room_ids}

    popular = PopularRooms(Many(), {})
    took = []

    async def look() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            took.append(time.perf_counter() - began)

    async def make() -> None:
        looking = asyncio.create_task(look())
        await popular.make_in_pieces(at_ms=0)
        await asyncio.sleep(0)
        looking.cancel()

    gc.disable()
    try:
        asyncio.run(make())
    finally:
        gc.enable()
    assert len(popular.crowded) == 10_000
    assert max(took) < 0.03  # in one go the end took 60 ms
    assert ranked(popular)[0] == "room-000096"
