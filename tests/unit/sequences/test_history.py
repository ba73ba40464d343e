"""THE history function: order, duplicates, types and the cut."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.sequences.history import History, ViewerEvents, build_history, history_inputs

ENTER, WATCH, LIKE = (EVENT_TYPE_CODES[name] for name in ("enter", "watch", "like"))
IMPRESSION, LEAVE = (EVENT_TYPE_CODES[name] for name in ("impression", "leave"))


def viewer_events(*rows: tuple) -> ViewerEvents:
    """Rows of (user, id, type, occurred s, received s, streamer, watch ms)."""
    user, event_id, event_type, occurred, received, streamer, watch = map(np.array, zip(*rows, strict=True))
    return ViewerEvents(
        user, event_id, event_type, occurred * 1000, received * 1000, streamer, np.zeros_like(streamer), watch
    )


EVENING = (
    (1, "e1", ENTER, 100, 100, 5, -1),
    (1, "e2", WATCH, 160, 161, 5, 60_000),
    (1, "e3", LIKE, 130, 131, 5, -1),
    (2, "e4", ENTER, 90, 95, 6, -1),
    (1, "e5", LEAVE, 160, 160, 5, -1),
    (2, "e6", IMPRESSION, 80, 80, 7, -1),
)


def rows_of(history: History) -> list[tuple]:
    return list(zip(*(column.tolist() for column in history if column is not history.source_row), strict=True))


def test_each_user_in_order_of_occurrence_and_only_what_they_chose():
    assert rows_of(build_history(viewer_events(*EVENING))) == [
        (1, 100_000, ENTER, 5, 0, 0),
        (1, 130_000, LIKE, 5, 0, 0),
        (1, 160_000, WATCH, 5, 0, 6),
        (2, 90_000, ENTER, 6, 0, 0),
    ]


def test_the_order_of_arrival_does_not_matter():
    expected = rows_of(build_history(viewer_events(*EVENING)))
    for order in itertools.islice(itertools.permutations(EVENING), 0, None, 7):
        assert rows_of(build_history(viewer_events(*order))) == expected


def test_of_one_id_the_first_received_counts():
    twice = viewer_events((1, "a", WATCH, 10, 20, 5, 1_000), (1, "a", WATCH, 30, 15, 6, 9_000))
    assert rows_of(build_history(twice)) == [(1, 30_000, WATCH, 6, 0, 4)]
    tie = viewer_events((1, "a", WATCH, 10, 20, 5, 1_000), (1, "a", WATCH, 30, 20, 6, 9_000))
    assert rows_of(build_history(tie))[0][3] == 5


def test_at_one_instant_the_id_decides():
    same = viewer_events((1, "b", LIKE, 10, 10, 6, -1), (1, "a", ENTER, 10, 11, 5, -1))
    assert build_history(same).streamer_index.tolist() == [5, 6]


def test_no_events_give_no_history():
    history = build_history(viewer_events((1, "a", LEAVE, 1, 1, 5, -1)))
    assert len(history.user) == 0
    inputs = history_inputs(history, start=0, stop=0, max_length=3)
    assert {name: column.tolist() for name, column in inputs.items()} == {name: [] for name in inputs}


def test_the_cut_keeps_the_newest_and_forgets_the_gap_before_it():
    history = build_history(viewer_events(*EVENING))
    inputs = history_inputs(history, start=0, stop=3, max_length=2)
    assert inputs["event_type"].tolist() == [LIKE, WATCH]
    assert inputs["time_gap_bucket"].tolist() == [0, 5]
    whole = history_inputs(history, start=0, stop=3, max_length=9)
    assert whole["time_gap_bucket"].tolist() == [0, 5, 5]


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 9), st.sampled_from([ENTER, LIKE, LEAVE]), st.integers(0, 5)),
        min_size=1,
        max_size=30,
    )
)
def test_one_user_alone_equals_that_user_among_all(drawn):
    rows = [
        (user, f"{user}-{name}", kind, at, place, 5 + place % 4, -1)
        for place, (user, name, kind, at) in enumerate(drawn)
    ]
    together = rows_of(build_history(viewer_events(*rows)))
    alone = [
        row
        for user in sorted({row[0] for row in rows})
        for row in rows_of(build_history(viewer_events(*(row for row in rows if row[0] == user))))
    ]
    assert together == alone
