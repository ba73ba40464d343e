import numpy as np
import pytest

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.sequences.labels import label_targets

MINUTE = 60_000
U, V = 1, 2

# (user, room, event type, minute, watch time in ms), expected label
TABLES = {
    "watched for long enough": [((U, 5, "enter", 0, -1), True), ((U, 5, "watch", 1, 3_000), False)],
    "left too soon": [((U, 5, "enter", 0, -1), False), ((U, 5, "watch", 1, 2_999), False)],
    "short reports add up": [
        ((U, 5, "enter", 0, -1), True),
        ((U, 5, "watch", 1, 2_000), False),
        ((U, 5, "watch", 2, 1_000), False),
    ],
    "nothing reported speaks for it": [((U, 5, "enter", 0, -1), True)],
    "another room's watching says nothing": [((U, 5, "enter", 0, -1), True), ((U, 6, "watch", 1, 10), False)],
    "another viewer's watching says nothing": [((U, 5, "enter", 0, -1), True), ((V, 5, "watch", 1, 10), False)],
    "each enter has its own reports": [
        ((U, 5, "enter", 0, -1), False),
        ((U, 5, "watch", 1, 500), False),
        ((U, 5, "enter", 5, -1), True),
        ((U, 5, "watch", 9, 90_000), False),
    ],
    "a report that began after the window does not count": [
        ((U, 5, "enter", 0, -1), True),
        ((U, 5, "watch", 31, 1_000), False),
    ],
    "one long report when leaving does": [
        ((U, 5, "enter", 0, -1), True),
        ((U, 5, "watch", 120, 120 * MINUTE), False),
    ],
    "a report at the instant of the enter belongs to it": [
        ((U, 5, "watch", 0, 100), False),
        ((U, 5, "enter", 0, -1), False),
    ],
    "an enter without a room has no reports": [((U, 0, "enter", 0, -1), True), ((U, 0, "watch", 1, 10), False)],
    "product actions are labels, talk is not": [
        ((U, 5, "product_click", 0, -1), True),
        ((U, 5, "add_to_cart", 1, -1), True),
        ((U, 5, "order", 2, -1), True),
        ((U, 5, "like", 3, -1), False),
        ((U, 5, "gift", 4, -1), False),
    ],
}


def columns(events):
    user, room, names, minute, watch = zip(*events, strict=True)
    return {
        "user": np.array(user),
        "room": np.array(room),
        "event_type": np.array([EVENT_TYPE_CODES[name] for name in names]),
        "occurred_at_ms": np.array(minute) * MINUTE,
        "watch_time_ms": np.array(watch),
    }


@pytest.mark.parametrize("name", TABLES)
def test_labels(name):
    events, expected = zip(*TABLES[name], strict=True)
    assert label_targets(**columns(events)).tolist() == list(expected)


def test_target_types_choose():
    events = [(U, 5, "product_click", 0, -1), (U, 5, "order", 1, -1)]
    assert label_targets(**columns(events), target_types=["order"]).tolist() == [False, True]


def test_the_minimum_is_a_setting():
    events = [(U, 5, "enter", 0, -1), (U, 5, "watch", 1, 3_000)]
    assert not label_targets(**columns(events), min_watch_time_ms=5_000)[0]


def test_a_type_outside_histories_is_refused():
    with pytest.raises(ValueError, match=r"target_types holds \['impression'\]"):
        label_targets(**columns([(U, 5, "enter", 0, -1)]), target_types=["impression"])


def test_no_events_have_no_labels():
    nothing = np.empty(0, dtype=np.int64)
    assert len(label_targets(**dict.fromkeys(columns([(U, 5, "enter", 0, -1)]), nothing))) == 0
