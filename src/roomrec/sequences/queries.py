"""The questions of evaluation, drawn without looking at more than a block of histories at a time."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.features.as_of import PRODUCT_KIND
from roomrec.ids import FIRST_INDEX
from roomrec.sequences.histories import Histories, HistoryBlock, blocks_of

Int64Array = npt.NDArray[np.int64]


class Queries(NamedTuple):
    """Q questions "what did this viewer choose next?", with what may be known when asking."""

    row: Int64Array
    """[Q] row of Histories"""
    stop: Int64Array
    """[Q] the history is the user's events before this place"""
    at_ms: Int64Array
    """[Q] when the choice was made"""
    target_offsets: Int64Array
    """[Q + 1]"""
    targets: Int64Array
    """[sum] item indices chosen"""
    room_item_index: Int64Array
    """[Q] for a product chosen inside a room, that room, else PAD"""
    kind: npt.NDArray[np.int8]
    """[Q] kind of what was chosen"""


def draw_queries(
    histories: Histories,
    item_kind: npt.NDArray[np.int8],
    *,
    split: int,
    ordered: bool,
    max_queries: int | None,
    seed: int,
) -> Queries:
    """Return the questions of a split, or a random part of them, in order.

    Args:
        histories: Everybody's events.
        item_kind: Kind of each item, shape ``[V]``.
        split: Code of the split.
        ordered: Whether the log knows in which order things happened: one question a target event then, else one a
            user.
        max_queries: The most to draw; None takes all.
        seed: Of the draw.

    Returns:
        The questions; none if the split holds no target.
    """
    counts = np.array([_count(block.histories, split, ordered=ordered) for block in blocks_of(histories)])
    stops = np.cumsum(counts)
    total = int(stops[-1])
    numbers = None
    if max_queries is not None and max_queries < total:
        numbers = np.sort(np.random.default_rng(seed).choice(total, size=max_queries, replace=False))
    parts: list[Queries] = []
    for block, first, stop in zip(blocks_of(histories), stops - counts, stops, strict=True):
        chosen = slice(None) if numbers is None else slice(*np.searchsorted(numbers, [first, stop]))
        wanted = np.arange(stop - first) if numbers is None else numbers[chosen] - first
        if len(wanted) or not parts:
            parts.append(select_queries(_queries_of(block, item_kind, split, ordered=ordered), wanted))
    return _joined(parts)


def select_queries(queries: Queries, numbers: Int64Array) -> Queries:
    """Return the queries with these numbers, in that order, their targets with them."""
    counts = np.diff(queries.target_offsets)[numbers]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
    places = np.repeat(queries.target_offsets[numbers], counts) + within
    return Queries(
        row=queries.row[numbers],
        stop=queries.stop[numbers],
        at_ms=queries.at_ms[numbers],
        target_offsets=offsets,
        targets=queries.targets[places],
        room_item_index=queries.room_item_index[numbers],
        kind=queries.kind[numbers],
    )


def _asked(histories: Histories, split: int) -> Int64Array:
    """Places of the targets of a split."""
    return np.flatnonzero(histories.target & (histories.split == split) & (histories.item_index >= FIRST_INDEX))


def _count(histories: Histories, split: int, *, ordered: bool) -> int:
    asked = _asked(histories, split)
    return len(asked) if ordered else len(np.unique(np.searchsorted(histories.offsets, asked, side="right")))


def _queries_of(block: HistoryBlock, item_kind: npt.NDArray[np.int8], split: int, *, ordered: bool) -> Queries:
    """All questions of a block, with rows and places counted among all users."""
    histories = block.histories
    chosen = _asked(histories, split)
    row = np.searchsorted(histories.offsets, chosen, side="right") - 1
    targets = histories.item_index[chosen].astype(np.int64)
    kind = item_kind[targets]
    room = np.where(kind == PRODUCT_KIND, histories.room_item_index[chosen], 0).astype(np.int64)
    at_ms = histories.occurred_at_ms[chosen]
    if ordered:
        offsets = np.arange(len(chosen) + 1, dtype=np.int64)
        return Queries(row + block.first_row, chosen + block.first_event, at_ms, offsets, targets, room, kind)
    first = np.flatnonzero(np.diff(row, prepend=-1))
    asked = row[first]
    earlier = np.concatenate([[0], np.cumsum(histories.split < split, dtype=np.int64)])
    stop = histories.offsets[asked] + earlier[histories.offsets[asked + 1]] - earlier[histories.offsets[asked]]
    offsets = np.append(first, len(chosen)).astype(np.int64)
    return Queries(
        asked + block.first_row, stop + block.first_event, at_ms[first], offsets, targets, room[first], kind[first]
    )


def _joined(parts: Iterable[Queries]) -> Queries:
    columns = {name: [getattr(part, name) for part in parts] for name in Queries._fields if name != "target_offsets"}
    counts = np.concatenate([np.diff(part.target_offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Queries(target_offsets=offsets, **{name: np.concatenate(values) for name, values in columns.items()})
