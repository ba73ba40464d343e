"""Flat histories and item tables to tensors, in whole-batch numpy.

Legend: B examples, L sequence, T events of all examples, C items.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from roomrec.batches.batch import HistoryBatch, ItemBatch
from roomrec.features.spec import ITEM_INPUTS
from roomrec.features.transforms import time_gap_buckets
from roomrec.ids import PAD_INDEX
from roomrec.sequences.dataset import ItemTable
from roomrec.sequences.histories import Histories

Int64Array = npt.NDArray[np.int64]


class Stretches(NamedTuple):
    """B stretches of the flat histories laid one after another."""

    place: Int64Array
    """[T] place in the flat histories"""
    example: Int64Array
    """[T] which stretch an event belongs to"""
    nth: Int64Array
    """[T] how many events of its stretch come before it"""
    length: Int64Array
    """[B]"""


def lay_out(start: Int64Array, stop: Int64Array) -> Stretches:
    """Lay stretches ``[start, stop)`` one after another.

    Example:
        >>> lay_out(np.array([4, 0]), np.array([6, 1]))
        Stretches(place=array([4, 5, 0]), example=array([0, 0, 1]), nth=array([0, 1, 0]), length=array([2, 1]))
    """
    length = stop - start
    example = np.repeat(np.arange(len(length)), length)
    nth = np.arange(len(example)) - np.repeat(np.cumsum(length) - length, length)
    return Stretches(start[example] + nth, example, nth, length)


def collate_histories(
    histories: Histories, *, row: Int64Array, start: Int64Array, stop: Int64Array, pad_right_to: int | None = None
) -> HistoryBatch:
    """Turn stretches of histories into inputs of a user encoder.

    Time gaps and ages are counted inside a stretch, as ``history_inputs`` does for one user.

    Args:
        histories: Everybody's events.
        row: The user of each example, shape ``[B]``.
        start: First event of each example, shape ``[B]``.
        stop: One past its newest event, shape ``[B]``; equal to ``start`` for an empty history.
        pad_right_to: Pad on the right, to this length, instead of on the left to the longest.

    Returns:
        Tensors ``[B, L]``, L being the longest stretch, at least 1, or ``pad_right_to``.
    """
    stretches = lay_out(start, stop)
    place = stretches.place
    gap = time_gap_buckets(histories.occurred_at_ms[place])
    gap[stretches.nth == 0] = 0
    newest_at_ms = histories.occurred_at_ms[np.maximum(stop, 1) - 1]
    padded_place = places_in_batch(stretches, pad_right_to=pad_right_to)
    shape = (len(stretches.length), pad_right_to or _longest(stretches))

    def pad(values: npt.NDArray[np.integer]) -> torch.Tensor:
        padded = np.zeros(shape, dtype=np.int64)
        padded.reshape(-1)[padded_place] = values
        return torch.from_numpy(padded)

    return HistoryBatch(
        event_type=pad(histories.event_type[place]),
        streamer_index=pad(histories.streamer_index[place]),
        product_index=pad(histories.product_index[place]),
        time_gap_bucket=pad(gap),
        watch_time_bucket=pad(histories.watch_time_bucket[place]),
        age_s=pad((newest_at_ms[stretches.example] - histories.occurred_at_ms[place]) // 1000),
        user_index=torch.from_numpy(histories.user_index[row].astype(np.int64)),
    )


def collate_items(items: ItemTable, item_index: Int64Array) -> ItemBatch:
    """Return the inputs of the item encoder for some items, in the order given.

    Bags are cut to the longest among them, so that a shop's products, bags of one, cost one look-up each.
    """
    columns = (getattr(items, name)[item_index] for name in ITEM_INPUTS)
    return ItemBatch(*(torch.from_numpy(_cut_bag(column) if column.ndim == 2 else column) for column in columns))


def places_in_batch(stretches: Stretches, *, pad_right_to: int | None = None) -> Int64Array:
    """Return for each event its place in the flattened ``[B * L]`` , padded as in ``collate_histories``, ``[T]``."""
    if pad_right_to is not None:
        return stretches.example * pad_right_to + stretches.nth
    longest = _longest(stretches)
    return stretches.example * longest + stretches.nth + longest - stretches.length[stretches.example]


def round_up_length(longest: int, *, at_most: int) -> int:
    """Round a length up to one of eight between any two powers of two, so that few lengths occur.

    What prepares something for each shape (oneDNN's kernels, an allocator's blocks, a compiled graph) then prepares it
    once; at most an eighth of a batch is padding for it.

    Args:
        longest: At least 1.
        at_most: L of the model, which is never exceeded.

    Example:
        >>> [round_up_length(length, at_most=50) for length in (1, 15, 17, 33, 50)]
        [1, 15, 18, 36, 50]
    """
    step = 1 << max(longest.bit_length() - 4, 0)
    return min(-(-longest // step) * step, at_most)


def _cut_bag(bag: Int64Array) -> Int64Array:
    used = np.flatnonzero((bag != PAD_INDEX).any(axis=0))
    return np.ascontiguousarray(bag[:, : max(int(used.max(initial=0)) + 1, 1)])


def _longest(stretches: Stretches) -> int:
    return max(int(stretches.length.max(initial=0)), 1)
