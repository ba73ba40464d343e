"""New or repeat, known or cold: what the viewer, and what the train split, knew of what was chosen."""

import numpy as np
import numpy.typing as npt

from roomrec.features.as_of import ROOM_KIND
from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.popularity import train_counts


def is_repeat(dataset: ProcessedDataset, queries: Queries) -> npt.NDArray[np.bool_]:
    """Say for each query whether its first target is one the history knows.

    A room is known if the history holds its streamer or the room itself, a product if it holds the product. Whatever
    the vocabulary does not know is compared by item, since all unknown ids share one index.

    Args:
        dataset: Where the queries come from.
        queries: What is asked.

    Returns:
        Whether each query repeats, shape ``[Q]``.
    """
    histories = dataset.histories
    items = dataset.items
    first = queries.targets[queries.target_offsets[:-1]]
    is_room = items.kind[first] == ROOM_KIND
    external = np.where(is_room, items.streamer[first], items.product[first, 0])
    repeats = np.zeros(len(first), dtype=bool)
    for query, target in enumerate(first):
        before = slice(histories.offsets[queries.row[query]], queries.stop[query])
        known = histories.streamer_index if is_room[query] else histories.product_index
        repeats[query] = np.any(histories.item_index[before] == target) or (
            external[query] >= FIRST_INDEX and np.any(known[before] == external[query])
        )
    return repeats


def is_cold(dataset: ProcessedDataset, queries: Queries) -> npt.NDArray[np.bool_]:
    """Say for each query whether nobody chose its first target in the train split: the product, or a room's streamer.

    Args:
        dataset: Where the queries come from.
        queries: What is asked.

    Returns:
        Whether each query's target is cold, shape ``[Q]``.
    """
    cold: npt.NDArray[np.bool_] = train_counts(dataset)[queries.targets[queries.target_offsets[:-1]]] == 0
    return cold
