"""Item-kNN as a scorer: viewers of what you viewed also viewed this."""

import numpy as np
import numpy.typing as npt
from implicit.nearest_neighbours import ItemItemRecommender
from scipy import sparse

from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import TRAIN_SPLIT, ProcessedDataset, Queries
from training.evaluation.popularity import train_counts

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class ItemKnn:
    """Cosine similarity between products, and between streamers, over the users of the train split.

    A candidate's score is the sum of its similarities to what the history holds. Equal sums, zero above all, are
    ordered by popularity, as anybody would do who served this.

    Args:
        dataset: Where the queries come from.
        queries: What is asked.
        num_neighbours: How many similar ones are kept for each, itself included.
        name: What tables call it.

    Raises:
        ValueError: If ``num_neighbours`` is below 1.

    Reference:
        Deshpande & Karypis 2004; the ``implicit`` library computes the similarities.
    """

    def __init__(
        self, dataset: ProcessedDataset, queries: Queries, *, num_neighbours: int = 100, name: str = "item_knn"
    ) -> None:
        if num_neighbours < 1:
            raise ValueError(f"num_neighbours must be at least 1, received {num_neighbours}")
        self.name = name
        self._dataset = dataset
        self._queries = queries
        self._entity = dataset.items.popularity_index
        self._num_entities = int(self._entity.max()) + 1
        counts = train_counts(dataset).astype(np.float32)
        self._tie_break = counts / max(float(counts.max()), 1.0) * np.float32(1e-6)
        histories = dataset.histories
        model = ItemItemRecommender(K=num_neighbours)
        train = self._user_items(histories.offsets[:-1], histories.offsets[1:], only_train=True)
        # Columns of length one make the products of columns cosines. CosineRecommender does the same with a warning.
        train.data /= np.sqrt(np.bincount(train.indices, minlength=self._num_entities))[train.indices]
        model.fit(train, show_progress=False)
        self._similarity = model.similarity

    def prepare(self, chunk: Int64Array) -> "_Neighbours":
        """Sum the similarities to each history."""
        queries = self._queries
        start = self._dataset.histories.offsets[queries.row[chunk]]
        history = self._user_items(start, queries.stop[chunk], only_train=False)
        return _Neighbours((history @ self._similarity).tocsr(), self._entity, self._tie_break)

    def _user_items(self, start: Int64Array, stop: Int64Array, *, only_train: bool) -> sparse.csr_matrix:
        """Which products and streamers the events ``[start, stop)`` hold, one row for each stretch, ones and zeros."""
        histories = self._dataset.histories
        length = stop - start
        row = np.repeat(np.arange(len(start)), length)
        place = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(len(row))
        item = histories.item_index[place]
        entity = self._entity[item]
        kept = (item >= FIRST_INDEX) & (entity > 0)
        if only_train:
            kept &= histories.split[place] == TRAIN_SPLIT
        matrix = sparse.csr_matrix(
            (np.ones(np.count_nonzero(kept), dtype=np.float64), (row[kept], entity[kept])),
            shape=(len(start), self._num_entities),
        )
        matrix.data[:] = 1.0
        return matrix


class _Neighbours:
    def __init__(self, scores: sparse.csr_matrix, entity: Int64Array, tie_break: Float32Array) -> None:
        self._scores = scores
        self._entity = entity
        self._tie_break = tie_break

    def matrix(self, candidates: Int64Array) -> Float32Array:
        dense = self._scores.toarray().astype(np.float32)
        return dense[:, self._entity[candidates]] + self._tie_break[candidates]

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        dense = self._scores[place].toarray()[0].astype(np.float32)
        return dense[self._entity[candidates]] + self._tie_break[candidates]
