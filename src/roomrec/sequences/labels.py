"""Which events of a history are positive labels: what a viewer chose and, after a label window, did not regret."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.sequences.history import HISTORY_EVENT_TYPES

DEFAULT_TARGET_TYPES: Final = ("enter", "product_click", "add_to_cart", "order")
"""Types that may be predicted."""

MIN_WATCH_TIME_MS: Final = 3_000
"""A view shorter than this is a negative, even from a follower."""

ENTER_WINDOW_MS: Final = 30 * 60 * 1000
"""Watching that began this long after an enter still speaks for that enter."""

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]


def label_targets(
    *,
    user: Int64Array,
    room: Int64Array,
    event_type: Int64Array,
    occurred_at_ms: Int64Array,
    watch_time_ms: Int64Array,
    target_types: Sequence[str] = DEFAULT_TARGET_TYPES,
    min_watch_time_ms: int = MIN_WATCH_TIME_MS,
    enter_window_ms: int = ENTER_WINDOW_MS,
) -> BoolArray:
    """Say which events of many users' histories are positive labels.

    An ``enter`` is one if the watch times reported for that user and room, from this enter until the next one and
    begun within the window, sum to the minimum; or if there is no such report, since then nothing speaks against it.
    A report began ``watch_time_ms`` before it occurred, which also covers one long report when the viewer leaves.
    Other types are labels whenever they are targets at all.

    Args:
        user: A number for each user, shape ``[T]``.
        room: A number for each room, 0 for none, shape ``[T]``.
        event_type: Codes, shape ``[T]``.
        occurred_at_ms: Instants, shape ``[T]``.
        watch_time_ms: Milliseconds, negative for none, shape ``[T]``.
        target_types: Types that may be labels.
        min_watch_time_ms: Watch time that makes an enter a positive.
        enter_window_ms: The window.

    Returns:
        Whether each event is a positive label, shape ``[T]``.

    Raises:
        ValueError: If a target type is not one a history is made of.

    Example:
        >>> label_targets(user=np.array([1, 1, 1, 1]), room=np.array([5, 5, 6, 0]), event_type=np.array([2, 4, 2, 12]),
        ...               occurred_at_ms=np.array([0, 900, 1_000, 2_000]), watch_time_ms=np.array([-1, 900, -1, -1]))
        array([False, False,  True,  True])
    """
    if unknown := [name for name in target_types if name not in HISTORY_EVENT_TYPES]:
        raise ValueError(f"target_types holds {unknown}: known are {list(HISTORY_EVENT_TYPES)}")
    target = np.isin(event_type, [EVENT_TYPE_CODES[name] for name in target_types])
    too_short = _short_views(user, room, event_type, occurred_at_ms, watch_time_ms, min_watch_time_ms, enter_window_ms)
    target[too_short] = False
    return target


def _short_views(
    user: Int64Array,
    room: Int64Array,
    event_type: Int64Array,
    occurred_at_ms: Int64Array,
    watch_time_ms: Int64Array,
    min_watch_time_ms: int,
    enter_window_ms: int,
) -> Int64Array:
    """Rows of the enters whose reported watch time is below the minimum."""
    enter = event_type == EVENT_TYPE_CODES["enter"]
    watch = (event_type == EVENT_TYPE_CODES["watch"]) & (watch_time_ms >= 0)
    rows = np.flatnonzero((enter | watch) & (room > 0))
    # an enter and a report of the same instant belong together, whichever id sorts first
    rows = rows[np.lexsort((watch[rows], occurred_at_ms[rows], room[rows], user[rows]))]
    if not len(rows):
        return rows
    entered = np.maximum.accumulate(np.where(enter[rows], np.arange(len(rows)), -1))
    reports = np.flatnonzero(watch[rows] & (entered >= 0))
    report, view = rows[reports], rows[entered[reports]]
    same = (user[report] == user[view]) & (room[report] == room[view])
    in_time = occurred_at_ms[report] - watch_time_ms[report] <= occurred_at_ms[view] + enter_window_ms
    report, view = report[same & in_time], view[same & in_time]
    watched = np.zeros(len(event_type), dtype=np.int64)
    reported = np.zeros(len(event_type), dtype=bool)
    np.add.at(watched, view, watch_time_ms[report])
    reported[view] = True
    return np.flatnonzero(reported & (watched < min_watch_time_ms))
