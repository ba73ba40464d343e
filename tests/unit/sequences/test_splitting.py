import numpy as np
import pytest

from roomrec.errors import ConfigurationError
from roomrec.sequences.splitting import ByTime, Given, LeaveOneOut, UnsplitHistories

DAY = 86_400_000
JANUARY_1 = 1_767_225_600_000
CLICK, ORDER = 10, 12


def histories(*users, ordered=True, filter_seen=False, at_ms=None, event_type=None, item_index=None):
    """Histories drawn as strings: ``T`` a target, ``.`` another event, ``H`` a held-out target."""
    events = "".join(users)
    return UnsplitHistories(
        user_ids=[f"u{row}" for row in range(len(users))],
        offsets=np.cumsum([0] + [len(user) for user in users]),
        occurred_at_ms=np.arange(len(events)) if at_ms is None else np.array(at_ms),
        event_type=np.full(len(events), CLICK) if event_type is None else np.array(event_type),
        target=np.array([event in "TH" for event in events]),
        held_out=np.array([event == "H" for event in events]),
        item_index=np.arange(2, len(events) + 2) if item_index is None else np.array(item_index),
        ordered=ordered,
        filter_seen=filter_seen,
    )


def drawn(assignment):
    """Splits as 0, 1, 2; lower case ``v`` for a validation event that is no target."""
    return "".join(
        "v" if split == 1 and not target else str(split)
        for split, target in zip(assignment.split, assignment.target, strict=True)
    )


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("TTTT", "0012"),
        ("TTT", "012"),
        ("TT", "00"),
        (".T.T.T.T.", "000001v22"),
        ("...", "000"),
    ],
)
def test_leave_one_out(user, expected):
    assert drawn(LeaveOneOut().assign(histories(user), {})) == expected


def test_leave_one_out_treats_each_user_alone():
    assert drawn(LeaveOneOut().assign(histories("TTT", "T", "TTTT"), {})) == "012" + "0" + "0012"


@pytest.mark.parametrize(
    ("validation_from", "test_from", "expected"),
    [
        ("-2d", "-1d", (8 * DAY, 9 * DAY)),
        (0.5, "0.9", (5 * DAY, 9 * DAY)),
        ("2026-01-06", "2026-01-07T12:00", (5 * DAY, 6 * DAY + DAY // 2)),
        ("2026-01-06T02:00+02:00", "-0.5d", (5 * DAY, 9 * DAY + DAY // 2)),
    ],
)
def test_boundaries_by_time(validation_from, test_from, expected):
    splitting = ByTime(validation_from=validation_from, test_from=test_from)
    found = splitting.boundaries(JANUARY_1, JANUARY_1 + 10 * DAY - 1)
    assert (found["validation_from_ms"] - JANUARY_1, found["test_from_ms"] - JANUARY_1) == expected


def test_by_time_splits_at_the_boundaries():
    at_ms = [9, 10, 19, 20, 5, 30]
    boundaries = {"validation_from_ms": 10, "test_from_ms": 20}
    assert drawn(ByTime().assign(histories("TTTT", "TT", at_ms=at_ms), boundaries)) == "0112" + "02"


@pytest.mark.parametrize(
    ("validation_from", "test_from", "message"),
    [
        ("-1d", "-2d", "must lie in this order"),
        ("-20d", "-1d", "must lie in this order"),
        ("soon", "-1d", "splitting.validation_from is 'soon'"),
        ("-2d", 1.5, "splitting.test_from is 1.5"),
    ],
)
def test_boundaries_that_make_no_sense_are_refused(validation_from, test_from, message):
    splitting = ByTime(validation_from=validation_from, test_from=test_from)
    with pytest.raises(ConfigurationError, match=message):
        splitting.boundaries(JANUARY_1, JANUARY_1 + 10 * DAY)


def test_given_asks_for_what_is_held_out():
    splitting = Given(validation_share=0.0)
    assert drawn(splitting.assign(histories("TTH", "TH"), {})) == "002" + "02"


def test_given_validates_on_the_last_event_of_the_held_out_kind():
    user = histories("TTTTH", event_type=[CLICK, ORDER, CLICK, CLICK, ORDER])
    # the clicks after the order would tell of it, so they are neither trained on nor asked for
    assert drawn(Given(validation_share=1.0).assign(user, {})) == "01vv2"


@pytest.mark.parametrize(
    ("item_index", "expected"),
    [
        ([5, 6, 7, 6, 8], "01vv2"),  # bought 6 after looking at it: asked before the look
        ([5, 6, 7, 9, 8], "00012"),  # bought 9 without a look
        ([6, 5, 7, 6, 8], "00002"),  # nothing lies before the look
    ],
)
def test_given_asks_before_an_item_was_touched_where_seen_items_are_no_answer(item_index, expected):
    types = [CLICK, CLICK, CLICK, ORDER, ORDER]
    user = histories("TTTTH", filter_seen=True, event_type=types, item_index=item_index)
    assert drawn(Given(validation_share=1.0).assign(user, {})) == expected


def test_given_without_order_validates_on_any_one_event():
    assignment = Given(validation_share=1.0).assign(histories("TTTTTTHH", ordered=False), {})
    assert sorted(drawn(assignment)) == sorted("00000122")


def test_given_draws_users_by_the_seed():
    users = histories(*["TTH"] * 400)
    first, again, other = (
        Given(validation_share=0.25, seed=seed).assign(users, {}).split.tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert 60 <= first.count(1) <= 140


def test_a_share_is_between_zero_and_one():
    with pytest.raises(ConfigurationError, match=r"splitting.validation_share is 1.5"):
        Given(validation_share=1.5)
