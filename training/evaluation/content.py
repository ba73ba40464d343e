"""Content-based scores: what resembles what you had, by everything that is known of an item but its ids."""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import sparse

from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import ItemTable, ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.interactions import Interactions

CONTENT: Final = ("category", "title", "price_band", "attributes")
"""Item features that are content: neither streamer nor product, which are ids."""

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class ContentBased:
    """Cosine similarity between a candidate and the history, over tf-idf of the items' side features.

    Args:
        dataset: Where items and histories come from.
        half_life: After so many newer events an event of the history counts half; None counts all alike.
        name: What tables call it.

    Raises:
        ValueError: If the dataset's items have no side features.
    """

    def __init__(self, dataset: ProcessedDataset, *, half_life: float | None = 4.0, name: str = "content") -> None:
        if not dataset.spec.has_side_features:
            raise ValueError("the items of this dataset have no side features: leave content-based scores out")
        self.name = name
        self._half_life = half_life
        self._interactions = Interactions(dataset)
        self._ordered = dataset.ordered
        self._histories = dataset.histories
        self._items = item_content(dataset.items)

    def prepare(self, queries: Queries) -> "_Resemblance":
        """Add up the content of each history."""
        return _Resemblance(self._interactions, self._tastes(queries), self._items)

    def _tastes(self, queries: Queries) -> sparse.csr_matrix:
        start = self._histories.offsets[queries.row]
        length = queries.stop - start
        row = np.repeat(np.arange(len(start)), length)
        place = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(len(row))
        weight = np.ones(len(row), dtype=np.float32)
        if self._half_life is not None and self._ordered:
            weight = np.exp2((place - (queries.stop[row] - 1)) / self._half_life).astype(np.float32)
        had = sparse.csr_matrix(
            (weight, (row, self._histories.item_index[place])), shape=(len(start), self._items.shape[0])
        )
        return unit_rows((had @ self._items).tocsr())


class _Resemblance:
    def __init__(self, interactions: Interactions, tastes: sparse.csr_matrix, items: sparse.csr_matrix) -> None:
        self._interactions = interactions
        self._tastes = tastes
        self._items = items

    def matrix(self, candidates: Int64Array) -> Float32Array:
        alike = (self._tastes @ self._items[candidates].T).toarray().astype(np.float32)
        scores: Float32Array = alike + self._interactions.tie_break[candidates]
        return scores

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        alike = (self._items[candidates] @ self._tastes[place].T).toarray()[:, 0].astype(np.float32)
        scores: Float32Array = alike + self._interactions.tie_break[candidates]
        return scores


def item_content(items: ItemTable) -> sparse.csr_matrix:
    """Return the tf-idf of each item's side features in rows of length one, ``[V, F]``; PAD and OOV count for nothing.

    Args:
        items: V items.
    """
    parts = []
    for name in CONTENT:
        values = getattr(items, name)
        values = values[:, None] if values.ndim == 1 else values
        row = np.repeat(np.arange(len(values)), values.shape[1])
        flat = values.ravel()
        kept = flat >= FIRST_INDEX
        width = max(int(flat.max(initial=0)) + 1, 1)
        ones = np.ones(np.count_nonzero(kept), dtype=np.float32)
        parts.append(sparse.csr_matrix((ones, (row[kept], flat[kept])), shape=(len(values), width)))
    content = sparse.hstack(parts).tocsr()
    frequency = np.bincount(content.indices, minlength=content.shape[1])
    rarity = np.log((1 + content.shape[0]) / (1 + frequency)).astype(np.float32)
    return unit_rows((content @ sparse.diags(rarity)).tocsr())


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Scale each row to length one; a row of zeros stays one."""
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float32)[:, 0])
    return (sparse.diags(1.0 / np.maximum(length, np.float32(1e-12))) @ matrix).tocsr()
