"""Inputs kept up event by event equal those made anew by the function that training uses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.transforms import time_gap_bucket, time_gap_buckets, watch_time_bucket, watch_time_buckets
from roomrec.features.vocabulary import Vocabulary
from roomrec.sequences.history import HISTORY_EVENT_TYPES, history_inputs
from serving.deployments.viewer_inputs import ViewerInputs
from serving.state.records import PastEvent, UserRecord, user_history

START_MS = 1_700_000_000_000
VOCABULARY = Vocabulary({"streamer": ["mia", "tom"], "product": ["silk", "wool"]})

events = st.builds(
    PastEvent,
    occurred_at_ms=st.integers(0, 40).map(lambda seconds: START_MS + seconds * 700) | st.integers(0, 2**42),
    event_id=st.sampled_from([f"e{number}" for number in range(30)]),
    received_at_ms=st.just(START_MS),
    event_type=st.sampled_from([EVENT_TYPE_CODES[name] for name in HISTORY_EVENT_TYPES]),
    streamer_id=st.sampled_from(["mia", "tom", "nobody", None]),
    product_id=st.sampled_from(["silk", "wool", "new", None]),
    room_id=st.just("r1"),
    watch_time_ms=st.just(-1) | st.integers(0, 10**9),
)
records = st.lists(events, max_size=14, unique_by=lambda event: event.event_id).map(
    lambda known: sorted(known, key=lambda event: (event.occurred_at_ms, event.event_id))
)
"""What the state may know of a viewer: each event once, in order."""


def event(number: int, *, at_ms: int | None = None, streamer: str | None = "mia", watch_time_ms: int = -1) -> PastEvent:
    at_ms = START_MS + number * 1_000 if at_ms is None else at_ms
    return PastEvent(at_ms, f"e{number:03}", at_ms, EVENT_TYPE_CODES["watch"], streamer, None, "r1", watch_time_ms)


def assert_as_anew(inputs: ViewerInputs, record: list[PastEvent], max_length: int) -> None:
    history = user_history(UserRecord("u1", record), VOCABULARY)
    expected = history_inputs(history, start=0, stop=len(record), max_length=max_length)
    found = inputs.newest(max_length)
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        assert found[name].dtype == column.dtype
        np.testing.assert_array_equal(found[name], column, name)
    known = (history.streamer_index >= 2).any() or (history.product_index >= 2).any()
    assert inputs.is_readable == bool(known)
    assert len(inputs) == len(record)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(records, min_size=1, max_size=5), max_length=st.integers(1, 16))
def test_whatever_becomes_of_a_record_the_inputs_are_those_made_anew(steps, max_length):
    inputs = ViewerInputs(VOCABULARY)
    for record in steps:
        inputs.follow(record)
        assert_as_anew(inputs, record, max_length)


@settings(max_examples=150, deadline=None)
@given(arrivals=st.lists(events, max_size=25, unique_by=lambda event: event.event_id), data=st.data())
def test_events_that_arrive_in_any_order_and_push_out_the_oldest(arrivals, data):
    limit, max_length = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    inputs, record, before = ViewerInputs(VOCABULARY), [], []
    while arrivals:
        count = data.draw(st.integers(1, 3))
        record = sorted(record + arrivals[:count], key=lambda each: (each.occurred_at_ms, each.event_id))[-limit:]
        arrivals = arrivals[count:]
        kept = inputs.follow(record)
        assert record[:kept] == before[:kept]
        assert kept == 0 or record[kept : kept + 1] != before[kept : kept + 1] or kept == len(record)
        assert_as_anew(inputs, record, max_length)
        before = record


def test_what_follow_says():
    inputs = ViewerInputs(VOCABULARY)
    first = [event(number) for number in range(4)]
    assert inputs.follow(first) == 0
    assert inputs.follow(list(first)) == 4
    assert inputs.follow([*first, event(4), event(5)]) == 4  # two more
    assert inputs.follow([*first, event(9, at_ms=START_MS + 3_500), event(4), event(5)]) == 4  # a late one
    assert inputs.follow([*first[:2], *first[3:]]) == 2  # one that was erased
    assert inputs.follow([*first[:2], *first[3:], event(7)]) == 3
    assert inputs.follow([first[1], *first[3:], event(7), event(8)]) == 0  # the oldest fell out: all have new places
    assert inputs.follow([]) == 0
    assert not inputs.is_readable


def test_the_first_new_event_counts_its_gap_from_the_one_before():
    inputs = ViewerInputs(VOCABULARY)
    inputs.follow([event(0)])
    kept = inputs.follow([event(0), event(60, watch_time_ms=3_000), event(61, streamer="nobody")])
    assert {name: column.tolist() for name, column in inputs.cut(kept, 3).items()} == {
        "event_type": [EVENT_TYPE_CODES["watch"]] * 2,
        "streamer_index": [2, 1],
        "product_index": [0, 0],
        "time_gap_bucket": [6, 2],
        "watch_time_bucket": [3, 0],
    }
    assert inputs.newest(2)["time_gap_bucket"].tolist() == [0, 2]
    assert inputs.cut(1, 3)["time_gap_bucket"].tolist() == [6, 2]


def test_the_list_given_may_change_afterwards():
    inputs, record = ViewerInputs(VOCABULARY), [event(0)]
    inputs.follow(record)
    record.append(event(1))
    assert inputs.follow(record) == 1
    assert len(inputs) == 2


def test_an_event_erased_and_accepted_again_with_other_content_is_another():
    inputs = ViewerInputs(VOCABULARY)
    inputs.follow([event(0), event(1)])
    assert inputs.follow([event(0), event(1, streamer="tom")]) == 1
    assert inputs.newest(9)["streamer_index"].tolist() == [2, 3]


@pytest.mark.parametrize("value", [0, 1, 999, 1_000, 6_999, 7_000, 2**31, 2**53, 2**62])
def test_buckets_of_one_are_buckets_of_many(value):
    assert time_gap_bucket(value) == time_gap_buckets(np.array([0, value]))[1]
    assert watch_time_bucket(value) == watch_time_buckets(np.array([value]))[0]


@given(value=st.integers(-5, 2**62))
def test_any_watch_time_and_gap_is_bucketed_alike(value):
    assert watch_time_bucket(value) == watch_time_buckets(np.array([value]))[0]
    if value >= 0:
        assert time_gap_bucket(value) == time_gap_buckets(np.array([0, value]))[1]
