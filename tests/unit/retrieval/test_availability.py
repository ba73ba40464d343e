"""Room events in every order of arrival, against what a person would say."""

from itertools import permutations
from typing import Any

import msgspec
import pytest

from roomrec.features.items import ItemFacts
from roomrec.retrieval.availability import (
    ProductRecord,
    RoomRecord,
    apply_to_product,
    apply_to_room,
    available_products,
    product_facts,
    room_facts,
)


def event(event_type: str, at_ms: int, **columns: Any) -> dict[str, Any]:
    return {"event_id": f"{event_type}-{at_ms}", "event_type": event_type, "occurred_at_ms": at_ms} | columns


START = event(
    "room_start",
    1_000,
    streamer_id="mia",
    context={"category": "scarves", "title": "Silk night", "attributes": "evening|outlet"},
)
LIST_SILK = event(
    "product_listed",
    2_000,
    product_id="silk",
    stock=5,
    amount_cents=1_990,
    context={"attributes": "soft|brand:northwind"},
)
UNLIST_SILK = event("product_unlisted", 3_000, product_id="silk")
LIST_SILK_AGAIN = event("product_listed", 4_000, product_id="silk", amount_cents=990)
LIST_WOOL = event("product_listed", 2_500, product_id="wool")


def room_of(*events: dict[str, Any]) -> RoomRecord:
    room = RoomRecord("r1")
    for each in events:
        apply_to_room(room, each)
    return room


def product_of(*events: dict[str, Any]) -> ProductRecord:
    product = ProductRecord("silk")
    for each in events:
        apply_to_product(product, each)
    return product


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([START], []),
        ([LIST_SILK], []),
        ([START, LIST_SILK, LIST_WOOL], ["silk", "wool"]),
        ([START, LIST_SILK, UNLIST_SILK, LIST_WOOL], ["wool"]),
        ([START, LIST_SILK, UNLIST_SILK, LIST_SILK_AGAIN], ["silk"]),
    ],
)
def test_what_can_be_bought_does_not_depend_on_the_order_of_arrival(
    events: list[dict[str, Any]], expected: list[str]
) -> None:
    for arrival in permutations(events):
        assert available_products(room_of(*arrival), {}) == expected


@pytest.mark.parametrize(
    ("stocks", "in_stock"),
    [
        ([(1_000, 5)], True),
        ([(1_000, 5), (2_000, 0)], False),
        ([(1_000, 5), (2_000, 0), (3_000, 2)], True),
        ([(1_000, 0)], False),
        ([], True),
    ],
)
def test_the_newest_stock_counts(stocks: list[tuple[int, int]], in_stock: bool) -> None:
    events = [event("stock_changed", at_ms, product_id="silk", stock=stock) for at_ms, stock in stocks]
    for arrival in permutations(events):
        silk = product_of(*arrival)
        assert silk.in_stock is in_stock
        assert available_products(room_of(START, LIST_SILK), {"silk": silk}) == (["silk"] if in_stock else [])


def test_a_listing_says_the_stock_too() -> None:
    sold_out = event("stock_changed", 1_500, product_id="silk", stock=0)
    assert product_of(LIST_SILK, sold_out).stock == 5
    assert product_of(sold_out, LIST_SILK_AGAIN).stock == 0


def test_two_events_of_one_instant_are_ordered_by_id() -> None:
    listed = event("product_listed", 1_000, product_id="silk") | {"event_id": "a"}
    unlisted = event("product_unlisted", 1_000, product_id="silk") | {"event_id": "b"}
    assert available_products(room_of(START, unlisted, listed), {}) == []


def test_viewers_see_the_newest_price_and_the_encoder_the_first() -> None:
    for arrival in permutations([LIST_SILK, LIST_SILK_AGAIN]):
        silk = product_of(*arrival)
        assert silk.price_cents == 990
        assert product_facts(silk) == ItemFacts(None, ["silk"], None, None, 1_990, "soft|brand:northwind")


def test_a_room_is_described_by_its_first_start() -> None:
    again = event("room_start", 9_000, streamer_id="tom")
    for arrival in permutations([START, again]):
        assert room_facts(room_of(*arrival)) == ItemFacts("mia", [], "scarves", "Silk night", None, "evening|outlet")


def test_a_room_is_known_by_what_was_listed_in_its_first_minute() -> None:
    in_time = event("product_listed", 61_000, product_id="saw")
    too_late = event("product_listed", 61_001, product_id="drill")
    for arrival in permutations([START, LIST_WOOL, in_time, too_late, UNLIST_SILK, LIST_SILK]):
        assert room_facts(room_of(*arrival)).product_ids == ["silk", "wool", "saw"]


def test_a_fact_of_no_letters_is_no_fact() -> None:
    context = {"category": "", "title": "", "attributes": ""}
    assert room_facts(room_of(START | {"context": context})) == ItemFacts("mia", [], None, None, None)
    silk = product_of(LIST_SILK | {"context": context})
    assert product_facts(silk) == ItemFacts(None, ["silk"], None, None, 1_990)


def test_records_from_before_there_were_attributes_still_read() -> None:
    room, product = room_of(START, LIST_SILK), product_of(LIST_SILK)
    for record in (room, product):
        *older, newest = msgspec.to_builtins(record)
        assert newest is not None
        read = msgspec.convert(older, type(record))
        *fields, missing = msgspec.to_builtins(read)
        assert (fields, missing) == (older, None)


def test_the_newest_pin_counts() -> None:
    pins = [event("product_pinned", at_ms, product_id=product) for at_ms, product in ((1, "silk"), (2, "wool"))]
    for arrival in permutations(pins):
        assert room_of(*arrival).pinned_product_id == "wool"


def test_a_room_that_has_not_started_has_no_facts() -> None:
    with pytest.raises(ValueError, match="'r1' has not started"):
        room_facts(RoomRecord("r1"))


def test_other_events_are_refused() -> None:
    with pytest.raises(ValueError, match="'enter' does not change"):
        apply_to_room(RoomRecord("r1"), event("enter", 1))
