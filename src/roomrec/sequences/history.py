"""One user's events, or many users' events, to history arrays: THE function training and serving both call."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.transforms import ages_s, time_gap_buckets, watch_time_buckets

HISTORY_EVENT_TYPES: Final = (
    "enter",
    "watch",
    "like",
    "comment",
    "share",
    "follow",
    "gift",
    "product_click",
    "add_to_cart",
    "order",
)
"""Types that enter a history: what a viewer chose. Being shown something, leaving, claiming a coupon and refusing are
used elsewhere."""

_HISTORY_CODES = np.array([EVENT_TYPE_CODES[name] for name in HISTORY_EVENT_TYPES])


class ViewerEvents(NamedTuple):
    """Events of one or many users in any order, duplicates included, as columns of one length n.

    ``event_id`` may hold the ids themselves or anything that sorts as they do.
    """

    user: npt.NDArray[np.int64]
    """[n] a number for each user of this call"""
    event_id: npt.NDArray[np.generic]
    """[n] strings, or their ranks"""
    event_type: npt.NDArray[np.int64]
    """[n] codes of EVENT_TYPE_CODES"""
    occurred_at_ms: npt.NDArray[np.int64]
    """[n] epoch"""
    received_at_ms: npt.NDArray[np.int64]
    """[n] epoch; decides which of two events with one id counts"""
    streamer_index: npt.NDArray[np.int64]
    """[n] dense"""
    product_index: npt.NDArray[np.int64]
    """[n] dense"""
    watch_time_ms: npt.NDArray[np.int64]
    """[n] -1 where there is none"""


class History(NamedTuple):
    """Histories of one or many users, one after another, each oldest first, T events in all."""

    user: npt.NDArray[np.int64]
    """[T] ascending"""
    source_row: npt.NDArray[np.int64]
    """[T] the row of the input each event comes from"""
    occurred_at_ms: npt.NDArray[np.int64]
    """[T]"""
    event_type: npt.NDArray[np.int64]
    """[T] codes"""
    streamer_index: npt.NDArray[np.int64]
    """[T]"""
    product_index: npt.NDArray[np.int64]
    """[T]"""
    watch_time_bucket: npt.NDArray[np.int64]
    """[T]"""


def build_history(events: ViewerEvents) -> History:
    """Order and deduplicate the events of each user and keep the types a history is made of.

    Of several events with one id the first received counts (on a tie the one first in the input). Order is by
    ``occurred_at_ms``, then by ``event_id``, so the time of arrival does not matter.

    Args:
        events: Events in any order.

    Returns:
        The histories, users ascending, each oldest first.

    Example:
        >>> columns = dict(user=[7, 7, 7], event_id=["b", "a", "a"], event_type=[2, 4, 4],
        ...                occurred_at_ms=[2_000, 1_000, 1_500], received_at_ms=[2_000, 1_600, 1_700],
        ...                streamer_index=[5, 6, 6], product_index=[0, 0, 0], watch_time_ms=[-1, 3_000, 3_000])
        >>> history = build_history(ViewerEvents(**{name: np.array(values) for name, values in columns.items()}))
        >>> history.streamer_index, history.watch_time_bucket
        (array([6, 5]), array([3, 0]))
    """
    arrival = np.lexsort((events.received_at_ms, events.event_id))
    ids = events.event_id[arrival]
    first = np.ones(len(ids), dtype=bool)
    first[1:] = ids[1:] != ids[:-1]
    rows = arrival[first]
    rows = rows[np.isin(events.event_type[rows], _HISTORY_CODES)]
    rows = rows[np.lexsort((events.event_id[rows], events.occurred_at_ms[rows], events.user[rows]))]
    return History(
        user=events.user[rows],
        source_row=rows,
        occurred_at_ms=events.occurred_at_ms[rows],
        event_type=events.event_type[rows].astype(np.int64),
        streamer_index=events.streamer_index[rows],
        product_index=events.product_index[rows],
        watch_time_bucket=watch_time_buckets(events.watch_time_ms[rows]),
    )


def history_inputs(history: History, *, start: int, stop: int, max_length: int) -> dict[str, npt.NDArray[np.int64]]:
    """Cut the newest events of one user's history ``[start, stop)`` into inputs of the user encoder.

    Time gaps are counted inside the cut, so what was dropped before it leaves no trace.

    Args:
        history: As ``build_history`` returned it.
        start: First row of the user.
        stop: One past the newest row to be seen: events from here on are the future.
        max_length: L, the most events to keep.

    Returns:
        For each name in ``HISTORY_INPUTS`` an int64 array ``[l]``, l <= L, oldest first, not padded.
    """
    cut = slice(max(start, stop - max_length), stop)
    return {
        "event_type": history.event_type[cut],
        "streamer_index": history.streamer_index[cut],
        "product_index": history.product_index[cut],
        "time_gap_bucket": time_gap_buckets(history.occurred_at_ms[cut]),
        "watch_time_bucket": history.watch_time_bucket[cut],
        "age_s": ages_s(history.occurred_at_ms[cut]),
    }
