"""A replica's catalogue follows the state by what has changed, and ends where a fresh one begins."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomrec.retrieval.availability import RoomRecord
from serving.state.live_catalogue import Changes, LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from serving.state.state_store import CatalogueRecords, MomentRecords, Position
from tests.contracts.state_store_contract import enter, event, start


class CountedStore(LmdbStateStore):
    """Counts what is asked of it."""

    asked: tuple[str, ...] = ()

    def read_catalogue(self) -> CatalogueRecords:
        self.asked += ("catalogue",)
        return super().read_catalogue()

    def read_changes(self, since: Position) -> CatalogueRecords | None:
        self.asked += ("changes",)
        return super().read_changes(since)

    def read_moments(self, since: Position | None) -> MomentRecords:
        self.asked += ("moments",)
        return super().read_moments(since)

    def forget(self) -> tuple[str, ...]:
        asked, self.asked = self.asked, ()
        return asked


class World:
    """A log, a state and a catalogue, whose clock stands still."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteEventLog(folder / "events.sqlite")
        self.store = CountedStore(folder / "state", self.log, history_limit=5, map_bytes=1 << 24)
        self.now_s = 0.0
        self.catalogue = self.replica()

    def replica(self) -> LiveCatalogue:
        return LiveCatalogue(self.store, clock=lambda: self.now_s)

    def accept(self, *events: dict[str, Any]) -> Position:
        return self.store.catch_up(self.log.append(events))

    def happens(self, *events: dict[str, Any]) -> Changes | None:
        self.accept(*events)
        return self.catalogue.refresh()

    def close(self) -> None:
        self.store.close()
        self.log.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def listed(at_ms: int, product_id: str = "silk", *, room_id: str = "r1", **columns: Any) -> dict[str, Any]:
    return event("product_listed", at_ms, room_id=room_id, product_id=product_id, **columns)


def test_viewers_change_nothing_and_nothing_is_asked(world: World) -> None:
    world.happens(start(1), listed(2))
    world.store.forget()
    assert world.happens(enter(3), event("watch", 4, user_id="u1", room_id="r1", watch_time_ms=9)) is None
    assert world.catalogue.position == world.store.position()
    assert world.store.forget() == ()


def test_a_refresh_asks_once_for_what_has_changed(world: World) -> None:
    world.happens(start(1), listed(2), listed(2, "wool"), start(3, room_id="r2"))
    world.store.forget()
    assert world.happens(event("stock_changed", 4, product_id="silk", stock=0)) == ({"r1"}, {"silk"})
    assert world.catalogue.available_products("r1") == ["wool"]
    assert world.happens(event("product_unlisted", 5, room_id="r1", product_id="wool")) == ({"r1"}, {"wool"})
    assert world.happens(event("product_pinned", 6, room_id="r2", product_id="silk")) == ({"r2"}, set())
    assert world.happens(event("room_end", 7, room_id="r2")) == ({"r2"}, set())
    assert list(world.catalogue.rooms) == ["r1"]
    assert world.store.forget() == ("changes",) * 4


def test_what_no_live_room_knows_changes_nothing_until_it_does(world: World) -> None:
    world.happens(start(1))
    assert world.happens(event("stock_changed", 2, product_id="silk", stock=0)) is None
    assert world.happens(listed(3, room_id="later")) is None
    assert world.happens(event("room_end", 4, room_id="never heard of")) is None
    assert list(world.catalogue.rooms) == ["r1"]
    assert world.happens(start(2, room_id="later")) == ({"later"}, set())
    assert world.catalogue.available_products("later") == []
    assert world.happens(event("stock_changed", 5, product_id="silk", stock=2)) == ({"later"}, {"silk"})
    assert world.catalogue.available_products("later") == ["silk"]


def test_a_product_of_a_room_that_ended_is_forgotten_unless_another_room_has_it(world: World) -> None:
    world.happens(start(1), start(1, room_id="r2"), listed(2), listed(2, "wool"), listed(2, room_id="r2"))
    world.happens(event("room_end", 3, room_id="r1"))
    assert world.catalogue.products.keys() == {"silk"}
    world.happens(event("room_end", 4, room_id="r2"), start(5, room_id="r3"), listed(6, "wool", room_id="r3"))
    assert world.catalogue.products.keys() == {"wool"}


def test_a_record_is_another_one_when_the_encoder_may_see_the_change_only(world: World) -> None:
    def room() -> RoomRecord:
        return world.catalogue.rooms["r1"]

    world.happens(start(1_000), listed(2_000))
    before = room()
    world.happens(listed(62_000, "late"), event("product_pinned", 63_000, room_id="r1", product_id="late"))
    world.happens(event("product_unlisted", 64_000, room_id="r1", product_id="silk"))
    assert room() is before
    assert room().pinned_product_id == "late"
    assert {name for name, listing in room().listings.items() if listing.listed} == {"late"}
    world.happens(listed(60_000, "late"))
    assert room() is not before
    before = room()
    world.happens(start(900) | {"event_id": "older", "streamer_id": "tom"})
    assert room() is not before
    assert room().streamer_id == "tom"
    assert room().listings.keys() == {"silk", "late"}


def test_rooms_are_known_by_their_host(world: World) -> None:
    world.happens(start(1), start(2, room_id="r2"), start(3, room_id="r3") | {"streamer_id": "tom"})
    world.happens(event("room_start", 4, room_id="r4", streamer_id="eve"), event("room_end", 5, room_id="r4"))
    assert world.catalogue.hosted_by(["mia"]) == {"r1", "r2"}
    assert world.catalogue.hosted_by(["mia", "tom", "eve", "nobody"]) == {"r1", "r2", "r3"}
    world.happens(start(0) | {"event_id": "older", "streamer_id": "tom"}, event("room_end", 6, room_id="r2"))
    assert world.catalogue.hosted_by(["mia"]) == set()
    assert world.catalogue.hosted_by(["tom"]) == {"r1", "r3"}
    assert world.replica().hosted_by(["tom"]) == set()


def test_a_copy_of_a_million_products_is_made_at_once(world: World) -> None:
    world.happens(start(1), listed(2))
    world.catalogue.products |= {f"p{nth}": world.catalogue.products["silk"] for nth in range(1_000_000)}
    started = time.perf_counter()
    world.catalogue.copy()
    assert time.perf_counter() - started < 0.005


def test_a_copy_stays_what_it_was(world: World) -> None:
    world.happens(start(1), listed(2), enter(3))
    twin = world.catalogue.copy()
    world.happens(event("product_unlisted", 70_000, room_id="r1", product_id="silk"), start(4, room_id="r2"))
    world.happens(listed(70_001, "wool", stock=0))
    assert twin.available_products("r1") == ["silk"]
    assert list(twin.rooms) == ["r1"]
    assert world.catalogue.available_products("r1") == []
    assert twin.rooms.keys() == {"r1"}


def test_rooms_that_share_a_product_are_all_told(world: World) -> None:
    world.happens(
        *(start(1, room_id=room) for room in ("r1", "r2", "r3")), *(listed(2, room_id=r) for r in ("r1", "r2"))
    )
    assert world.happens(event("stock_changed", 3, product_id="silk", stock=0)) == ({"r1", "r2"}, {"silk"})
    world.happens(event("room_end", 4, room_id="r1"), listed(5, room_id="r3"), event("room_end", 6, room_id="r2"))
    assert world.happens(event("stock_changed", 7, product_id="silk", stock=1)) == ({"r3"}, {"silk"})
    assert world.catalogue.available_products("r3") == ["silk"]


def test_a_replica_that_is_too_far_behind_reads_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.state.lmdb_tables.KEPT_CHANGES", 3)
    world.happens(start(0))
    late = world.replica()
    late.refresh()
    world.store.forget()
    for at_ms in range(1, 4):
        world.accept(listed(at_ms, f"p{at_ms}"))
    world.catalogue.refresh()
    assert world.store.forget() == ("changes",)
    world.accept(event("room_end", 9, room_id="r1"), start(9, room_id="r2"))
    assert late.refresh() == ({"r1", "r2"}, None)
    assert world.store.forget() == ("changes", "catalogue", "moments")
    world.catalogue.refresh()
    assert late.rooms == world.catalogue.rooms == {"r2": RoomRecord("r2", (9, "room_start-9-r2-mia"), "mia")}
    assert late.products == world.catalogue.products == {}


def test_a_state_made_anew_is_read_anew(world: World) -> None:
    world.happens(start(1), listed(2), enter(3))
    world.store.rebuild()
    assert world.catalogue.refresh() == ({"r1"}, None)
    assert world.catalogue.enters(at_ms=3) == {"r1": 1.0}


def test_moments_are_asked_for_lazily_and_seldom(world: World) -> None:
    world.happens(start(0), start(0, room_id="r2"), enter(61_000))
    world.happens(enter(62_000, room_id="r2"))
    world.store.forget()
    world.now_s += 0.1
    assert world.catalogue.moments("r1", at_ms=62_000) == (1, 0, 0)
    assert world.catalogue.enters(at_ms=62_000) == {"r1": pytest.approx(1.0, rel=0.01), "r2": 1.0}
    assert world.catalogue.enters(at_ms=62_000, room_ids=["r2", "r9"]) == {"r2": 1.0}
    assert world.store.forget() == ("moments",)
    world.happens(event("comment", 61_500, user_id="u2", room_id="r1"))
    assert world.catalogue.moments("r1", at_ms=62_000) == (1, 0, 0)
    world.now_s += 0.1
    assert world.catalogue.moments("r1", at_ms=62_000) == (1, 1, 0)
    assert world.store.forget() == ("moments",)
    world.happens(event("room_end", 62_500, room_id="r1"))
    assert world.catalogue.moments("r1", at_ms=62_600) == (0, 0, 0)
    assert world.catalogue.enters(at_ms=62_000).keys() == {"r2"}


def test_moments_read_before_their_room_is_heard_of_are_kept(world: World) -> None:
    world.accept(start(0), enter(61_000))
    assert world.catalogue.moments("r1", at_ms=62_000) == (0, 0, 0)
    world.catalogue.refresh()
    assert world.catalogue.moments("r1", at_ms=62_000) == (1, 0, 0)


ROOMS, PRODUCTS = ("r1", "r2", "r3"), ("silk", "wool", "saw")
room_events = st.builds(
    lambda kind, number, at_ms, room, product, stock, streamer: {
        "event_id": f"e{number}",
        "event_type": kind,
        "occurred_at_ms": at_ms,
        "received_at_ms": at_ms,
        "room_id": room,
        "product_id": product,
        "streamer_id": streamer,
        "user_id": "u1",
        "stock": stock,
    },
    st.sampled_from(
        (
            *("room_start", "room_start", "room_end", "product_listed", "product_listed", "product_unlisted"),
            *("product_pinned", "stock_changed", "enter", "order"),
        )
    ),
    st.integers(0, 80),
    st.sampled_from([0, 1, 2, 59_999, 60_001, 60_002, 90_000, 120_001]),
    st.sampled_from(ROOMS),
    st.sampled_from(PRODUCTS),
    st.sampled_from([0, 3]),
    st.sampled_from(["mia", "tom"]),
)
steps = (
    st.lists(room_events, min_size=1, max_size=1)
    | st.lists(room_events, min_size=2, max_size=6)
    | st.sampled_from(["first follows", "second follows", "copies"])
)


def what_is_there(catalogue: LiveCatalogue) -> object:
    catalogue._moments_until = 0.0
    return (
        catalogue.rooms,
        catalogue._not_started,
        catalogue.products,
        {name: {rooms} if isinstance(rooms, str) else rooms for name, rooms in catalogue._rooms_of_product.items()},
        {room_id: catalogue.available_products(room_id) for room_id in ROOMS},
        {room_id: catalogue.moments(room_id, at_ms=60_003) for room_id in ROOMS},
        catalogue.enters(at_ms=200_000),
    )


@settings(max_examples=100, deadline=None)
@given(played=st.lists(steps, max_size=30), kept=st.sampled_from([2, 10_000]))
def test_however_replicas_follow_they_end_where_a_rebuilt_state_begins(
    played: list[list[dict[str, Any]] | str], kept: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("serving.state.lmdb_tables.KEPT_CHANGES", kept)
        world = World(Path(folder))
        other_log = SqliteEventLog(Path(folder) / "events.sqlite")
        replicas = {"first follows": world.catalogue, "second follows": world.replica()}
        for place, step in enumerate(played):
            if step == "copies":
                replicas["first follows"].copy()
            elif isinstance(step, str):
                replicas[step].refresh()
            elif place % 3:  # a writer that dies, or is slower than another, leaves events to be found in the log
                other_log.append(step)
            else:
                world.accept(*step)
        world.store.catch_up()
        found = []
        for replica in replicas.values():
            replica.refresh()
            found.append(what_is_there(replica))
        world.store.rebuild()
        fresh = world.replica()
        fresh.refresh()
        assert found == [what_is_there(fresh)] * 2
        other_log.close()
        world.close()
