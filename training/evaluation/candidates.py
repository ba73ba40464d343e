"""What could have been shown when a choice was made, and on which surface."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.features.as_of import PRODUCT_KIND, ROOM_KIND
from roomrec.ids import OOV_INDEX, PAD_INDEX
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries

ROOM_FEED: Final = "room_feed"
"""Which live room to enter."""

ROOM_PRODUCTS: Final = "room_products"
"""Which product of a live room to open."""

CATALOGUE: Final = "catalogue"
"""Which item of all there are, in logs that do not know what was available."""

Int64Array = npt.NDArray[np.int64]


class Group(NamedTuple):
    """Queries of one surface."""

    surface: str
    queries: Int64Array
    """[n] query numbers, oldest first"""
    shared: Int64Array | None
    """[C] the candidates of every query; None where each query has its own"""


class Candidates:
    """The candidates of each query, by the log's own knowledge of what was available.

    A log that knows availability gives each query the rooms live at that instant, or the products available in that
    room at that instant. What was chosen was there, so a target is a candidate even where the log disagrees; how often
    it does is counted in ``unavailable_targets``. Other logs give every item of the target's kind.

    Args:
        dataset: The processed dataset.
        queries: Its queries.
    """

    def __init__(self, dataset: ProcessedDataset, queries: Queries) -> None:
        self._dataset = dataset
        self._queries = queries
        order = np.argsort(queries.at_ms, kind="stable")
        in_room = (queries.room_item_index > OOV_INDEX) & (queries.kind == PRODUCT_KIND)
        self.groups: list[Group] = []
        if dataset.knows_availability:
            self._add(ROOM_FEED, order[queries.kind[order] == ROOM_KIND], None)
            self._add(ROOM_PRODUCTS, order[in_room[order]], None)
            self._add(CATALOGUE, order[((queries.kind == PRODUCT_KIND) & ~in_room)[order]], PRODUCT_KIND)
        else:
            kinds = [kind for kind in (ROOM_KIND, PRODUCT_KIND) if np.any(queries.kind == kind)]
            for kind in kinds:
                surface = CATALOGUE if len(kinds) == 1 or kind == PRODUCT_KIND else ROOM_FEED
                self._add(surface, order[queries.kind[order] == kind], kind)
        single = np.diff(queries.target_offsets) == 1
        first = queries.targets[queries.target_offsets[:-1]]
        known = self._dataset.availability.is_available(first, queries.at_ms) if dataset.knows_availability else single
        self.unavailable_targets = int(np.count_nonzero(single & ~known))

    def of(self, query: int) -> Int64Array:
        """Return the candidates of a query of a live surface, ascending and distinct, targets among them."""
        queries = self._queries
        kind = int(queries.kind[query])
        room = int(queries.room_item_index[query]) if kind == PRODUCT_KIND else None
        there = self._dataset.availability.available_at(int(queries.at_ms[query]), kind=kind, room_item_index=room)
        targets = self.targets(query)
        places = np.searchsorted(there, targets)
        found = (
            (places < len(there)) & (there[np.minimum(places, len(there) - 1)] == targets) if len(there) else [False]
        )
        return there if np.all(found) else np.union1d(there, targets)

    def targets(self, query: int) -> Int64Array:
        """Return the items chosen in a query."""
        offsets = self._queries.target_offsets
        return self._queries.targets[offsets[query] : offsets[query + 1]]

    def seen(self, query: int) -> Int64Array:
        """Return what the user had before and did not choose now, ascending and distinct: removed in some protocols."""
        row = self._queries.row[query]
        histories = self._dataset.histories
        before = histories.item_index[histories.offsets[row] : self._queries.stop[query]].astype(np.int64)
        return np.setdiff1d(before, np.append(self.targets(query), (PAD_INDEX, OOV_INDEX)))

    def chunks(self, group: Group, *, max_numbers: int = 1 << 24) -> Iterator[Int64Array]:
        """Cut a group's queries so that a chunk's score matrix holds at most ``max_numbers`` numbers."""
        width = 1 if group.shared is None else len(group.shared)
        size = int(np.clip(max_numbers // max(width, 1), 1, 1024))
        for start in range(0, len(group.queries), size):
            yield group.queries[start : start + size]

    def _add(self, surface: str, queries: Int64Array, kind: int | None) -> None:
        if len(queries):
            shared = None if kind is None else np.flatnonzero(self._dataset.items.kind == kind)
            self.groups.append(Group(surface, queries, shared))
