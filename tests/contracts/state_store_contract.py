"""What every state store promises. Subclass, and say how to open one."""

import random
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.state.event_log import EventLog
from serving.state.records import MAX_REFUSALS, UserRecord, refusals_of, unpack_user
from serving.state.state_store import StateStore

MINUTE_MS = 60_000


def event(event_type: str, at_ms: int, *, event_id: str | None = None, **columns: Any) -> dict[str, Any]:
    event_id = event_id or f"{event_type}-{at_ms}-{'-'.join(map(str, columns.values()))}"
    return {"event_id": event_id, "event_type": event_type, "occurred_at_ms": at_ms, "received_at_ms": at_ms} | columns


def enter(at_ms: int, *, user_id: str = "u1", room_id: str = "r1", streamer_id: str = "mia") -> dict[str, Any]:
    return event("enter", at_ms, user_id=user_id, room_id=room_id, streamer_id=streamer_id)


def start(at_ms: int, *, room_id: str = "r1") -> dict[str, Any]:
    return event("room_start", at_ms, room_id=room_id, streamer_id="mia")


def an_evening(seed: int) -> list[dict[str, Any]]:
    """Events of every kind, shuffled."""
    rng = random.Random(seed)
    rooms, products, users = [f"r{n}" for n in range(4)], [f"p{n}" for n in range(5)], [f"u{n}" for n in range(4)]
    events = []
    for place in range(200):
        at_ms = rng.randrange(0, 3_600_000)
        room, product, user = rng.choice(rooms), rng.choice(products), rng.choice(users)
        made = rng.choice(
            [
                event("room_start", at_ms, room_id=room, streamer_id="mia"),
                event("product_listed", at_ms, room_id=room, product_id=product, stock=rng.randrange(3)),
                event("product_unlisted", at_ms, room_id=room, product_id=product),
                event("stock_changed", at_ms, product_id=product, stock=rng.randrange(3)),
                event("product_pinned", at_ms, room_id=room, product_id=product),
                event("enter", at_ms, user_id=user, room_id=room, streamer_id="mia"),
                event("watch", at_ms, user_id=user, room_id=room, streamer_id="mia", watch_time_ms=5_000),
                event("order", at_ms, user_id=user, product_id=product),
                event("follow", at_ms, user_id=user, streamer_id=rng.choice(["mia", "tom"])),
                event("impression", at_ms, user_id=user, room_id=room),
            ]
        )
        events.append(made | {"event_id": f"e{place}"})
    events.append(event("room_end", 1_800_000, room_id="r0"))
    rng.shuffle(events)
    return events


class StateStoreContract:
    """A store is opened with room for the newest five events of a viewer."""

    history_limit = 5

    @abstractmethod
    def open_log(self, folder: Path) -> EventLog:
        """Open an event log in a folder."""

    @abstractmethod
    def open_store(self, folder: Path, log: EventLog) -> StateStore:
        """Open the store in a folder as a view of a log, remembering five events a viewer."""

    @abstractmethod
    def contents(self, store: StateStore) -> object:
        """Return everything in a store as something that can be compared."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[EventLog]:
        log = self.open_log(tmp_path / "log")
        yield log
        log.close()

    @pytest.fixture
    def store(self, tmp_path: Path, log: EventLog) -> Iterator[StateStore]:
        store = self.open_store(tmp_path / "store", log)
        yield store
        store.close()

    def user(self, store: StateStore, user_id: str = "u1") -> UserRecord:
        _, packed = store.read_user(user_id)
        assert packed is not None
        return unpack_user(packed)

    def test_nothing_is_known_of_a_stranger(self, store: StateStore) -> None:
        assert store.read_user("u1")[1] is None

    def test_catching_up_applies_everything_once(self, log: EventLog, store: StateStore) -> None:
        log.append([enter(1), enter(2)])
        assert store.catch_up().applied_seq == log.last_seq()
        assert store.catch_up().applied_seq == log.last_seq()
        assert [past.occurred_at_ms for past in self.user(store).events] == [1, 2]

    def test_history_is_ordered_by_occurrence_then_id_and_bounded(self, log: EventLog, store: StateStore) -> None:
        for at_ms in (3, 9, 1, 7, 5, 8, 2):
            log.append([enter(at_ms)])
            store.catch_up()
        log.append([enter(8, room_id="r0")])
        store.catch_up()
        kept = [(past.occurred_at_ms, past.room_id) for past in self.user(store).events]
        assert kept == [(5, "r1"), (7, "r1"), (8, "r0"), (8, "r1"), (9, "r1")]

    def test_what_is_no_choice_does_not_enter_a_history(self, log: EventLog, store: StateStore) -> None:
        log.append([event("impression", 1, user_id="u1", room_id="r1"), event("coupon_claim", 2, user_id="u1")])
        store.catch_up()
        assert store.read_user("u1")[1] is None

    def test_follows_outlast_the_history(self, log: EventLog, store: StateStore) -> None:
        log.append([event("follow", 1, user_id="u1", streamer_id="tom"), *(enter(at_ms) for at_ms in range(2, 9))])
        store.catch_up()
        assert list(self.user(store).follows) == ["tom"]

    def test_the_narrowest_thing_named_is_refused(self, log: EventLog, store: StateStore) -> None:
        log.append(
            [
                event("not_interested", 1, user_id="u1", room_id="r1", streamer_id="mia", product_id="silk"),
                event("not_interested", 2, user_id="u1", room_id="r2", streamer_id="mia"),
                event("not_interested", 3, user_id="u1", streamer_id="tom"),
            ]
        )
        store.catch_up()
        assert refusals_of(self.user(store)) == ({"silk"}, {"r2"}, {"tom"})
        assert self.user(store).events == []

    @pytest.mark.parametrize("order", [1, -1])
    def test_the_newer_of_following_and_refusing_a_host_counts(
        self, log: EventLog, store: StateStore, order: int
    ) -> None:
        events = [
            event("not_interested", 1, user_id="u1", streamer_id="tom"),
            event("follow", 2, user_id="u1", streamer_id="tom"),
            event("follow", 3, user_id="u1", streamer_id="mia"),
            event("not_interested", 4, user_id="u1", streamer_id="mia"),
        ]
        for each in events[::order]:
            log.append([each])
            store.catch_up()
        assert refusals_of(self.user(store)).streamer_ids == {"mia"}

    def test_refusals_are_bounded(self, log: EventLog, store: StateStore) -> None:
        log.append(
            [event("not_interested", at_ms, user_id="u1", product_id=f"p{at_ms}") for at_ms in range(MAX_REFUSALS + 3)]
        )
        store.catch_up()
        kept = refusals_of(self.user(store)).product_ids
        assert len(kept) == MAX_REFUSALS
        assert "p2" not in kept

    def test_ids_of_128_wide_characters_are_told_apart(self, log: EventLog, store: StateStore) -> None:
        first, second = "\U0001f600" * 128, "\U0001f600" * 127 + "\U0001f601"
        log.append([enter(1, user_id=first), enter(2, user_id=second)])
        store.catch_up()
        assert [past.occurred_at_ms for past in self.user(store, first).events] == [1]
        assert [past.occurred_at_ms for past in self.user(store, second).events] == [2]

    def test_rooms_and_products_are_read_together(self, log: EventLog, store: StateStore) -> None:
        log.append([start(1), event("product_listed", 2, room_id="r1", product_id="silk", stock=4), enter(3)])
        store.catch_up()
        records = store.read_catalogue()
        assert list(records.rooms) == ["r1"]
        assert records.products["silk"].stock == 4
        moment = store.read_moments(None).rooms["r1"]
        assert (moment.enters, moment.enters_at_ms, moment.counts.by_second) == (1.0, 3, {0: [1, 0, 0]})

    def test_an_end_is_final(self, log: EventLog, store: StateStore) -> None:
        for each in (start(1), event("room_end", 5, room_id="r1"), start(9), enter(10)):
            log.append([each])
            store.catch_up()
        log.append([event("product_listed", 11, room_id="r1", product_id="silk")])
        store.catch_up()
        assert store.read_catalogue().rooms == {}
        assert store.read_moments(None).rooms == {}

    def test_an_end_before_its_start_is_final_too(self, log: EventLog, store: StateStore) -> None:
        log.append([event("room_end", 5, room_id="r1"), start(1)])
        store.catch_up()
        assert store.read_catalogue().rooms == {}

    def test_enters_fade(self, log: EventLog, store: StateStore) -> None:
        log.append([start(0), enter(0), enter(10 * MINUTE_MS)])
        store.catch_up()
        moment = store.read_moments(None).rooms["r1"]
        assert (moment.enters, moment.enters_at_ms) == (1.5, 10 * MINUTE_MS)

    def test_only_moments_counted_since_are_read(self, log: EventLog, store: StateStore) -> None:
        log.append([start(0), start(0, room_id="r2"), enter(1_000), enter(2_000, room_id="r2")])
        before = store.catch_up()
        log.append([event("comment", 1_500, user_id="u2", room_id="r1"), enter(1, user_id="u2", room_id="unheard of")])
        after = store.catch_up()
        assert store.read_moments(None).rooms.keys() == {"r1", "r2"}
        found = store.read_moments(before)
        assert found.position == after
        assert {room_id: moment.counts.by_second for room_id, moment in found.rooms.items()} == {"r1": {1: [1, 1, 0]}}
        assert store.read_moments(after).rooms == {}
        store.rebuild()
        assert store.read_moments(after).rooms.keys() == {"r1", "r2"}

    def test_only_room_events_move_the_catalogue(self, log: EventLog, store: StateStore) -> None:
        log.append([start(1)])
        started = store.catch_up()
        assert started.catalogue_seq == started.applied_seq
        log.append(
            [
                enter(2),
                event("comment", 3, user_id="u1", room_id="r1"),
                event("order", 4, user_id="u1", product_id="silk"),
            ]
        )
        entered = store.catch_up()
        assert entered.applied_seq > started.applied_seq
        assert entered.catalogue_seq == started.catalogue_seq
        log.append([enter(5), event("stock_changed", 6, product_id="silk", stock=0), enter(7)])
        sold_out = store.catch_up()
        assert started.catalogue_seq < sold_out.catalogue_seq < sold_out.applied_seq
        assert store.read_user("u1")[0] == store.position() == store.read_catalogue().position == sold_out

    def test_changes_are_what_changed_and_only_that(self, log: EventLog, store: StateStore) -> None:
        names = ["silk", "wool", "drill"]
        log.append(
            [
                *(start(1, room_id=room_id) for room_id in ("r1", "r2", "r3", "r4")),
                *(event("product_listed", 2, room_id="r1", product_id=name, stock=4) for name in names),
            ]
        )
        before = store.catch_up()
        log.append([event("product_unlisted", 3, room_id="r1", product_id="silk"), enter(4, room_id="r4")])
        log.append([event("room_end", 5, room_id="r2"), event("stock_changed", 6, product_id="wool", stock=0)])
        log.append([event("product_pinned", 7, room_id="r3", product_id="drill"), event("room_end", 8, room_id="r9")])
        store.catch_up()
        changes = store.read_changes(before)
        assert changes is not None
        assert changes.position == store.position()
        assert changes.rooms.keys() == {"r1", "r2", "r3", "r9"}
        room = changes.rooms["r1"]
        assert room is not None
        assert room.is_live
        assert {name: listing.listed for name, listing in room.listings.items()} == {"silk": False}
        assert changes.rooms["r3"] is not None
        assert changes.rooms["r3"].pinned_product_id == "drill"
        assert changes.rooms["r2"] is changes.rooms["r9"] is None
        assert {name: product.stock for name, product in changes.products.items()} == {"silk": 4, "wool": 0}

    def test_changes_are_told_after_opening_again(self, tmp_path: Path, log: EventLog) -> None:
        store = self.open_store(tmp_path / "again", log)
        log.append([start(1), event("product_listed", 2, room_id="r1", product_id="silk", stock=4)])
        before = store.catch_up()
        log.append([event("stock_changed", 9, product_id="silk", stock=0)])
        store.catch_up()
        store.close()
        again = self.open_store(tmp_path / "again", log)
        changes = again.read_changes(before)
        assert changes is not None
        assert {name: product.stock for name, product in changes.products.items()} == {"silk": 0}
        assert again.read_catalogue().products["silk"].stock == 0
        again.close()

    def test_a_late_event_undoes_nothing_newer(self, log: EventLog, store: StateStore) -> None:
        log.append(
            [
                start(5),
                event("product_listed", 6, room_id="r1", product_id="silk", stock=3),
                event("product_unlisted", 9, room_id="r1", product_id="silk"),
                event("stock_changed", 9, product_id="silk", stock=0),
                event("product_pinned", 9, room_id="r1", product_id="silk"),
            ]
        )
        before = store.catch_up()
        log.append(
            [
                event("product_listed", 8, room_id="r1", product_id="silk", stock=7),
                event("stock_changed", 7, product_id="silk", stock=8),
                event("product_pinned", 8, room_id="r1", product_id="wool"),
                start(6) | {"streamer_id": "tom"},
            ]
        )
        store.catch_up()
        for records in (store.read_changes(before), store.read_catalogue()):
            assert records is not None
            room = records.rooms["r1"]
            assert room is not None
            assert (room.streamer_id, room.pinned_product_id) == ("mia", "silk")
            assert {name: listing.listed for name, listing in room.listings.items()} == {"silk": False}
            assert records.products["silk"].stock == 0

    def test_nothing_has_changed_since_now(self, log: EventLog, store: StateStore) -> None:
        log.append([start(1), enter(2)])
        here = store.catch_up()
        assert store.read_changes(here) == (here, {}, {})

    def test_a_listing_comes_with_its_product_however_old_that_is(self, log: EventLog, store: StateStore) -> None:
        log.append([start(1), event("stock_changed", 2, product_id="silk", stock=0)])
        before = store.catch_up()
        log.append([event("product_listed", 3, room_id="r1", product_id="silk")])
        store.catch_up()
        changes = store.read_changes(before)
        assert changes is not None
        assert changes.products["silk"].stock == 0

    def test_many_changes_at_once_are_all_told(self, log: EventLog, store: StateStore) -> None:
        log.append([start(1)])
        before = store.catch_up()
        names = {f"p{place}" for place in range(250)}
        log.append([event("product_listed", 2, room_id="r1", product_id=name) for name in sorted(names)])
        store.catch_up()
        changes = store.read_changes(before)
        assert changes is not None
        assert changes.rooms["r1"] is not None
        assert changes.rooms["r1"].listings.keys() == changes.products.keys() == names
        whole = store.read_catalogue()
        assert (whole.rooms, whole.products) == (changes.rooms, changes.products)

    def test_changes_of_another_generation_or_of_the_future_are_not_told(
        self, log: EventLog, store: StateStore
    ) -> None:
        log.append([start(1)])
        before = store.catch_up()
        assert store.read_changes(before._replace(catalogue_seq=before.catalogue_seq + 1)) is None
        store.rebuild()
        assert store.read_changes(before) is None

    def test_what_was_just_appended_is_applied_from_memory(self, log: EventLog, store: StateStore) -> None:
        store.catch_up()
        for at_ms in range(1, 4):
            appended = log.append([enter(at_ms), enter(1)])
            assert store.catch_up(appended).applied_seq == appended.entries[0].seq
        assert store.catch_up(log.append([enter(1)])).applied_seq == log.last_seq()
        assert [past.occurred_at_ms for past in self.user(store).events] == [1, 2, 3]

    def test_what_lies_between_is_read_from_the_log(self, log: EventLog, store: StateStore) -> None:
        log.append([enter(1)])
        second = log.append([enter(2)])
        third = log.append([enter(3)])
        for appended in (third, second, third):
            store.catch_up(appended)
            assert [past.occurred_at_ms for past in self.user(store).events] == [1, 2, 3]

    def test_events_of_a_viewer_erased_meanwhile_do_not_come_back_from_memory(
        self, log: EventLog, store: StateStore
    ) -> None:
        store.catch_up()
        appended = log.append([enter(1), enter(2)])
        log.erase_user("u1")
        store.erase_user("u1")
        store.catch_up(appended)
        assert store.read_user("u1")[1] is None
        store.catch_up(log.append([enter(3)]))
        assert [past.occurred_at_ms for past in self.user(store).events] == [3]

    @pytest.mark.parametrize("seed", range(3))
    def test_rebuilt_equals_followed_step_by_step(self, log: EventLog, store: StateStore, seed: int) -> None:
        events = an_evening(seed)
        for place in range(0, len(events), 7):
            log.append(events[place : place + 7])
            store.catch_up()
        step_by_step = self.contents(store)
        before = store.position()
        after = store.rebuild()
        assert after.applied_seq == before.applied_seq
        assert after.generation > before.generation
        assert self.contents(store) == step_by_step

    def test_what_is_logged_but_not_applied_is_found_after_opening_again(self, tmp_path: Path, log: EventLog) -> None:
        store = self.open_store(tmp_path / "store", log)
        log.append([enter(1)])
        store.catch_up()
        log.append([enter(2)])
        store.close()
        again = self.open_store(tmp_path / "store", log)
        assert [past.occurred_at_ms for past in self.user(again).events] == [1]
        again.catch_up()
        assert [past.occurred_at_ms for past in self.user(again).events] == [1, 2]
        again.close()

    def test_erasing_forgets_one_viewer(self, log: EventLog, store: StateStore) -> None:
        refusal = event("not_interested", 4, user_id="u1", room_id="r9")
        log.append([enter(1), enter(2, user_id="u2"), event("follow", 3, user_id="u1", streamer_id="tom"), refusal])
        store.catch_up()
        log.erase_user("u1")
        assert store.erase_user("u1") == (2, 1, 1)
        assert store.erase_user("u1") == (0, 0, 0)
        assert store.read_user("u1")[1] is None
        assert self.user(store, "u2").user_id == "u2"
        store.rebuild()
        assert store.read_user("u1")[1] is None
