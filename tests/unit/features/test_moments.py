"""Moments of rooms: the same numbers from a stream and from a log, in whatever order events come."""

from itertools import permutations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomrec.features.moments import KEPT_S, MOMENT_EVENT_TYPES, MomentCounts, moments_as_of


def counts_of(*events: tuple[str, int]) -> MomentCounts:
    counts = MomentCounts()
    for event_type, at_ms in events:
        counts.add(event_type, at_ms=at_ms)
    return counts


@pytest.mark.parametrize(
    ("at_ms", "enters", "comments", "orders"),
    [
        (99_999, 0, 0, 0),  # the second in which the enter happens has not passed
        (100_999, 0, 0, 0),
        (101_000, 1, 0, 0),
        (110_000, 1, 0, 0),
        (111_000, 1, 2, 0),
        (130_999, 1, 2, 1),  # 100 s is the 30th whole second back
        (131_000, 0, 2, 1),
        (141_000, 0, 0, 1),
        (159_999, 0, 0, 1),
        (160_000, 0, 0, 0),
        (10**13, 0, 0, 0),
    ],
)
def test_thirty_whole_seconds_are_counted(at_ms: int, enters: int, comments: int, orders: int) -> None:
    events = [("enter", 100_500), ("comment", 110_000), ("comment", 110_999), ("order", 129_001)]
    assert counts_of(*events).at(at_ms) == (enters, comments, orders)
    found = moments_as_of(
        np.zeros(4, np.int64),
        np.array([0, 1, 1, 2]),
        np.array([at_ms for _, at_ms in events]),
        asked_room=np.array([0, 1]),
        asked_at_ms=np.array([at_ms, at_ms]),
    )
    assert found.tolist() == [[enters, comments, orders], [0, 0, 0]]


def test_the_order_of_arrival_does_not_matter() -> None:
    events = [("enter", 1_000), ("order", 30_000), ("comment", 61_500), ("enter", 61_000), ("enter", 90_000)]
    assert all(counts_of(*arrived) == counts_of(*events) for arrived in permutations(events))


def test_what_is_kept_is_bounded_and_a_quiet_room_takes_little() -> None:
    busy = counts_of(*(("enter", at_ms) for at_ms in range(0, 600_000, 100)))
    assert len(busy.by_second) == KEPT_S
    assert len(msgspec.msgpack.encode(busy)) < 600
    assert busy.at(600_000).enters == 300
    quiet = counts_of(("enter", 0), ("enter", 599_000))
    assert quiet.by_second == {599: [1, 0, 0]}


def test_an_event_long_past_is_not_remembered() -> None:
    counts = counts_of(("enter", 100_000))
    counts.add("enter", at_ms=40_999)
    assert counts.by_second == {100: [1, 0, 0]}
    counts.add("enter", at_ms=41_000)
    assert counts.at(71_999).enters == 1


def test_other_types_are_refused() -> None:
    with pytest.raises(KeyError, match="gift"):
        MomentCounts().add("gift", at_ms=1)


def test_arrays_of_different_lengths_are_refused() -> None:
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="lengths 1, 2, 1"):
        moments_as_of(one, two, one, asked_room=one, asked_at_ms=one)
    with pytest.raises(ValueError, match="lengths 2, 1"):
        moments_as_of(one, one, one, asked_room=two, asked_at_ms=one)


def test_a_log_without_events_has_quiet_moments() -> None:
    none, one = np.zeros(0, np.int64), np.zeros(1, np.int64)
    assert moments_as_of(none, none, none, asked_room=one, asked_at_ms=one).tolist() == [[0, 0, 0]]
    assert moments_as_of(one, one, one, asked_room=none, asked_at_ms=none).shape == (0, 3)


instants = st.integers(0, 200_000) | st.sampled_from([0, 29_999, 30_000, 59_999, 60_000, 60_001, 90_000])
events_of_rooms = st.tuples(st.integers(0, 2), st.integers(0, len(MOMENT_EVENT_TYPES) - 1), instants)


@given(events=st.lists(events_of_rooms, max_size=80), asked=st.lists(st.integers(0, 30_000), min_size=1, max_size=10))
def test_a_stream_and_a_log_give_the_same(events: list[tuple[int, int, int]], asked: list[int]) -> None:
    room, place, at_ms = (
        (np.array(column, dtype=np.int64) for column in zip(*events, strict=True))
        if events
        else (
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
        )
    )
    streams = [MomentCounts() for _ in range(3)]
    for number, kind, instant in events:
        streams[number].add(MOMENT_EVENT_TYPES[kind], at_ms=instant)
    rooms = np.repeat(np.arange(3), len(asked))
    # a replica's clock may be up to 30 s behind the newest event
    newest = np.repeat([max(stream.newest_s, 0) for stream in streams], len(asked)) * 1_000
    at = np.maximum(newest - 29_000, 0) + np.tile(np.array(asked, dtype=np.int64) * 4, 3)
    offline = moments_as_of(room, place, at_ms, asked_room=rooms, asked_at_ms=at)
    online = [list(streams[number].at(int(instant))) for number, instant in zip(rooms, at, strict=True)]
    assert offline.tolist() == online
