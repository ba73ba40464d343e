"""Everybody's histories laid one after another, and how to walk through them block by block."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

EVENTS_PER_BLOCK: Final = 1 << 18
"""Events that are looked at together: what a pass over all histories holds in memory, a few megabytes."""

Int64Array = npt.NDArray[np.int64]


class Histories(NamedTuple):
    """Whole histories of U users, one after another, each oldest first, T events in all, mapped from disk.

    Mapped columns are indexed where they lie. An expression over a whole column, as in ``histories.split == 0``, makes
    an array of T values in memory: what training does goes through ``blocks_of`` instead.
    """

    user_index: Int64Array
    """[U]"""
    offsets: Int64Array
    """[U + 1]"""
    occurred_at_ms: Int64Array
    """[T]"""
    event_type: npt.NDArray[np.int8]
    """[T] codes"""
    streamer_index: npt.NDArray[np.int32]
    """[T]"""
    product_index: npt.NDArray[np.int32]
    """[T]"""
    watch_time_bucket: npt.NDArray[np.int8]
    """[T]"""
    item_index: npt.NDArray[np.int32]
    """[T] the product of a product event, else the room; PAD if neither"""
    room_item_index: npt.NDArray[np.int32]
    """[T] the room it happened in, or PAD"""
    target: npt.NDArray[np.bool_]
    """[T] whether it is a positive label"""
    split: npt.NDArray[np.int8]
    """[T]"""


class HistoryBlock(NamedTuple):
    """The histories of neighbouring users; offsets count from the block's first event."""

    histories: Histories
    first_row: int
    """Row of the block's first user among all"""
    first_event: int
    """Place of the block's first event among all"""


def block_bounds(offsets: Int64Array, *, events_per_block: int = EVENTS_PER_BLOCK) -> Int64Array:
    """Cut users into blocks of about so many events; nobody's history is cut.

    Args:
        offsets: First event of each user and the number of events, shape ``[U + 1]``.
        events_per_block: About how many events a block holds; one user may have more.

    Returns:
        Rows at which blocks begin, and U, strictly ascending, shape ``[blocks + 1]``.

    Example:
        >>> block_bounds(np.array([0, 2, 3, 9, 10]), events_per_block=3)
        array([0, 2, 3, 4])
    """
    wanted = np.arange(0, int(offsets[-1]), events_per_block, dtype=np.int64)
    return np.unique(np.append(np.searchsorted(offsets, wanted), len(offsets) - 1))


def cut_block(histories: Histories, first_row: int, stop_row: int) -> HistoryBlock:
    """Return the users ``[first_row, stop_row)`` as histories of their own, columns shared."""
    first_event, stop_event = int(histories.offsets[first_row]), int(histories.offsets[stop_row])
    columns = {name: getattr(histories, name)[first_event:stop_event] for name in Histories._fields[2:]}
    cut = Histories(
        user_index=histories.user_index[first_row:stop_row],
        offsets=histories.offsets[first_row : stop_row + 1] - first_event,
        **columns,
    )
    return HistoryBlock(cut, first_row, first_event)


def blocks_of(histories: Histories) -> Iterator[HistoryBlock]:
    """Walk through all users, a block at a time."""
    bounds = block_bounds(histories.offsets)
    for first_row, stop_row in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield cut_block(histories, first_row, stop_row)
