import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomrec.errors import EventError
from roomrec.events.schema import EVENT_SCHEMA, EVENT_TYPES
from roomrec.events.validation import (
    REJECTED_SCHEMA,
    UNCHECKED_SCHEMA,
    Rejection,
    read_fields,
    validate_event,
    validate_table,
)

NOW = 1_000_000_000
MINUTE = 60_000
ENTER = {
    "event_id": "e1",
    "event_type": "enter",
    "occurred_at_ms": NOW,
    "received_at_ms": NOW,
    "user_id": "u1",
    "room_id": "r1",
    "streamer_id": "mia",
}

BROKEN = [
    ({"event_id": None}, "missing:event_id"),
    ({"event_id": ""}, "empty:event_id"),
    ({"user_id": ""}, "empty:user_id"),
    ({"user_id": "x" * 129}, "id_too_long:user_id"),
    ({"event_type": None}, "missing:event_type"),
    ({"event_type": "dance"}, "unknown_event_type"),
    ({"occurred_at_ms": None}, "missing:occurred_at_ms"),
    ({"occurred_at_ms": -1}, "occurred_before_epoch"),
    ({"occurred_at_ms": NOW + 10 * MINUTE + 1}, "occurred_in_future"),
    ({"room_id": None}, "missing:room_id"),
    ({"user_id": None}, "missing:user_id"),
    ({"event_type": "watch"}, "missing:watch_time_ms"),
    ({"event_type": "watch", "watch_time_ms": -5}, "negative:watch_time_ms"),
    ({"event_type": "order"}, "missing:product_id"),
    ({"event_type": "stock_changed", "product_id": "p1"}, "missing:stock"),
    ({"event_type": "impression", "room_id": None}, "missing:room_id|product_id"),
    ({"position": -1}, "negative:position"),
    ({"request_id": ""}, "empty:request_id"),
    ({"request_id": "x" * 129}, "id_too_long:request_id"),
    ({"context": {"title": "\u00fc" * 16_380}}, "too_long:context"),
    ({"context": {str(n): "v" for n in range(10_000)}}, "too_long:context"),
    ({"propensity": math.nan}, "not_a_number:propensity"),
    ({"propensity": math.inf}, "not_a_number:propensity"),
]
MISTYPED = [
    ({"user_id": 5}, "not_a_string:user_id"),
    ({"user_id": "half a pair \ud83d"}, "not_a_string:user_id"),
    ({"occurred_at_ms": "yesterday"}, "not_a_number:occurred_at_ms"),
    ({"stock": 1.5}, "not_a_number:stock"),
    ({"stock": True}, "not_a_number:stock"),
    ({"stock": 2**63}, "out_of_range:stock"),
    ({"position": 2**31}, "out_of_range:position"),
    ({"propensity": "high"}, "not_a_number:propensity"),
    ({"context": ["app"]}, "not_a_map:context"),
    ({"context": {"surface": 1}}, "not_a_string:context"),
]


def table(*events):
    columns = [
        pa.array([list(e["context"].items()) if n == "context" and e.get(n) else e.get(n) for e in events], t)
        for n, t in zip(UNCHECKED_SCHEMA.names, UNCHECKED_SCHEMA.types, strict=True)
    ]
    return pa.table(columns, schema=UNCHECKED_SCHEMA)


def test_a_good_event_is_accepted_by_both():
    event = validate_event(ENTER | {"context": {"surface": "room_feed"}}, received_at_ms=NOW)
    assert event["user_id"] == "u1"
    assert event["stock"] is None
    assert list(event) == EVENT_SCHEMA.names
    accepted, rejected = validate_table(table(ENTER))
    assert accepted.schema.equals(EVENT_SCHEMA)
    assert accepted["event_type"].to_pylist() == ["enter"]
    assert rejected.schema.equals(REJECTED_SCHEMA)
    assert len(rejected) == 0


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_broken_event_is_rejected_by_both_for_the_same_reason(change, reason):
    event = ENTER | change
    assert validate_event(event, received_at_ms=NOW) == Rejection(reason)
    accepted, rejected = validate_table(table(event, ENTER))
    assert rejected["reason"].to_pylist() == [reason]
    assert rejected["event_id"].to_pylist() == [event["event_id"]]
    assert accepted["event_id"].to_pylist() == ["e1"]


@pytest.mark.parametrize(("change", "reason"), MISTYPED)
def test_a_value_of_another_type_is_rejected(change, reason):
    assert validate_event(ENTER | change, received_at_ms=NOW) == Rejection(reason)


def test_contexts_are_measured_one_by_one():
    longest = {"context": {"title": "\u00fc" * 16_379}}
    events = [ENTER | {"event_id": f"e{n}"} | (longest if n % 2 else {}) for n in range(5)]
    accepted, rejected = validate_table(pa.concat_tables([table(*events[:2]), table(*events[2:])]))
    assert (len(accepted), len(rejected)) == (5, 0)
    assert validate_event(events[1], received_at_ms=NOW)["context"] == longest["context"]


def test_a_clock_that_is_a_little_fast_is_set_right():
    event = ENTER | {"occurred_at_ms": NOW + 10 * MINUTE}
    assert validate_event(event, received_at_ms=NOW)["occurred_at_ms"] == NOW
    accepted, _ = validate_table(table(event))
    assert accepted["occurred_at_ms"].to_pylist() == [NOW]


def test_an_event_late_by_days_is_accepted_as_it_is():
    event = validate_event(ENTER, received_at_ms=NOW + 5 * 86_400_000)
    assert (event["occurred_at_ms"], event["received_at_ms"]) == (NOW, NOW + 5 * 86_400_000)


def test_what_the_client_says_of_receipt_does_not_count():
    assert validate_event(ENTER | {"received_at_ms": 7}, received_at_ms=NOW)["received_at_ms"] == NOW


def test_unknown_columns_are_left_out():
    assert "mood" not in validate_event(ENTER | {"mood": "good"}, received_at_ms=NOW)


def test_order_is_kept_and_every_row_is_somewhere():
    events = [ENTER | {"event_id": f"e{n}", "user_id": None if n % 3 == 0 else "u"} for n in range(7)]
    accepted, rejected = validate_table(table(*events))
    assert accepted["event_id"].to_pylist() == ["e1", "e2", "e4", "e5"]
    assert rejected["event_id"].to_pylist() == ["e0", "e3", "e6"]


def test_a_missing_column_is_named():
    with pytest.raises(EventError, match="column event_type is missing"):
        validate_table(table(ENTER).drop_columns(["event_type"]))


def test_a_column_of_another_type_is_named():
    wrong = table(ENTER).set_column(2, "occurred_at_ms", pa.array(["yesterday"]))
    with pytest.raises(EventError, match="column occurred_at_ms is string"):
        validate_table(wrong)


def test_nothing_stays_nothing():
    accepted, rejected = validate_table(UNCHECKED_SCHEMA.empty_table())
    assert (len(accepted), len(rejected)) == (0, 0)


IDS = st.one_of(st.none(), st.sampled_from(["", "a", "ü" * 128, "b" * 129]), st.text(max_size=4))
NUMBERS = st.one_of(st.none(), st.sampled_from([-(2**63), -1, 0, 2**63 - 1]), st.integers(-3, NOW))
EVENTS = st.fixed_dictionaries(
    {
        "event_id": IDS,
        "event_type": st.one_of(st.sampled_from([*EVENT_TYPES, "dance", None])),
        "occurred_at_ms": st.one_of(NUMBERS, st.integers(NOW - 5, NOW + 11 * MINUTE)),
        "user_id": IDS,
        "streamer_id": IDS,
        "room_id": IDS,
        "product_id": IDS,
        "watch_time_ms": NUMBERS,
        "amount_cents": NUMBERS,
        "quantity": NUMBERS,
        "stock": NUMBERS,
        "position": st.one_of(st.none(), st.integers(-2, 2)),
        "propensity": st.one_of(st.none(), st.floats(width=32)),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(EVENTS, max_size=12), st.integers(0, NOW))
def test_both_doors_give_the_same_verdict(events, received_at_ms):
    readable = [e for e in events if not isinstance(read_fields(e), Rejection)]
    alone = [validate_event(e, received_at_ms=received_at_ms) for e in readable]
    accepted, rejected = validate_table(table(*(e | {"received_at_ms": received_at_ms} for e in readable)))
    assert rejected["reason"].to_pylist() == [e.reason for e in alone if isinstance(e, Rejection)]
    kept = [e for e in alone if not isinstance(e, Rejection)]
    for name in ("event_id", "event_type", "occurred_at_ms", "received_at_ms", "room_id", "stock", "position"):
        assert accepted[name].to_pylist() == [e[name] for e in kept]
