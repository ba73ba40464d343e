"""User-kNN as a scorer: what viewers like you viewed."""

import numpy as np
from scipy import sparse

from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.interactions import EntityScores, Interactions, keep_highest


class UserKnn:
    """Cosine similarity between a query's history and what other users had in the train split.

    A candidate's score is the sum of the similarities of the nearest users who had it. An entity of n users counts
    ``1 / sqrt(n)`` in the cosine. The asking user is nobody's neighbour of itself.

    Args:
        dataset: Where the histories come from.
        num_neighbours: How many users are asked.
        half_life: What was last had before so many others counts half; None counts all alike.
        name: What tables call it.

    Raises:
        ValueError: If ``num_neighbours`` is below 1.

    Reference:
        Herlocker et al. 1999.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        num_neighbours: int = 200,
        half_life: float | None = 2.0,
        name: str = "user_knn",
    ) -> None:
        if num_neighbours < 1:
            raise ValueError(f"num_neighbours must be at least 1, received {num_neighbours}")
        self.name = name
        self._num_neighbours = num_neighbours
        self._half_life = half_life
        self._interactions = Interactions(dataset)
        train = self._interactions.train
        count = np.maximum(np.bincount(train.indices, minlength=train.shape[1]), 1)
        self._rarity = sparse.diags((1.0 / np.sqrt(count)).astype(np.float32))
        self._users = _unit_rows(train @ self._rarity).T.tocsr()

    def prepare(self, queries: Queries) -> EntityScores:
        """Find the neighbours of each history and add up what they had."""
        history = self._interactions.of(queries, half_life=self._half_life)
        alike = (_unit_rows(history @ self._rarity) @ self._users).tocsr()
        own = np.repeat(queries.row, np.diff(alike.indptr)) == alike.indices
        alike.data[own] = 0
        neighbours = keep_highest(alike, self._num_neighbours)
        return EntityScores(self._interactions, (neighbours @ self._interactions.train).tocsr())


def _unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1), dtype=np.float32)[:, 0])
    return (sparse.diags(1.0 / np.maximum(length, np.float32(1e-12))) @ matrix).tocsr()
