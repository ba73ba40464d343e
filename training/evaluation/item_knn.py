"""Item-kNN as a scorer: viewers of what you viewed also viewed this."""

from typing import Final

import numpy as np
from scipy import sparse

from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.interactions import EntityScores, Interactions, keep_highest

_CANDIDATES_AT_ONCE: Final = 2048


class ItemKnn:
    """Cosine similarity between products, and between streamers, over the users of the train split.

    A candidate's score is the sum of its similarities to what the history holds. Each candidate keeps its own most
    similar ones: kept by what is in the history instead, popular candidates crowd out the others. A user with n
    entities counts ``1 / sqrt(n)``, and cosines of few users are shrunk.

    Args:
        dataset: Where the histories come from.
        num_neighbours: How many similar ones are kept for each candidate, itself included.
        shrink: Added to the denominator of the cosine, in weights of users.
        half_life: What was last had before so many others counts half; None counts all alike.
        name: What tables call it.

    Raises:
        ValueError: If ``num_neighbours`` is below 1.

    Reference:
        Deshpande & Karypis 2004; Ferrari Dacrema et al. 2019 for the shrink and the neighbours of the candidate.
        Deliberately different: the weight of users, the half-life.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        num_neighbours: int = 100,
        shrink: float = 5.0,
        half_life: float | None = 2.0,
        name: str = "item_knn",
    ) -> None:
        if num_neighbours < 1:
            raise ValueError(f"num_neighbours must be at least 1, received {num_neighbours}")
        self.name = name
        self._half_life = half_life
        self._interactions = Interactions(dataset)
        self._similarity = similarities(self._interactions.train, num_neighbours=num_neighbours, shrink=shrink)

    def prepare(self, queries: Queries) -> EntityScores:
        """Sum the similarities to each history."""
        history = self._interactions.of(queries, half_life=self._half_life)
        return EntityScores(self._interactions, (history @ self._similarity).tocsr())


def similarities(train: sparse.csr_matrix, *, num_neighbours: int, shrink: float) -> sparse.csr_matrix:
    """Return the shrunk cosines of each column with its neighbours, ``[E, E]``: in column j the neighbours of j.

    Args:
        train: Ones where a user had to do with an entity, shape ``[U, E]``.
        num_neighbours: Entries kept in each column.
        shrink: Added to the denominator.
    """
    weight = 1.0 / np.sqrt(np.maximum(np.diff(train.indptr), 1))
    weighted = (sparse.diags(weight) @ train).tocsr().astype(np.float32)
    norm = np.sqrt(np.asarray(weighted.sum(axis=0), dtype=np.float32)[0])
    by_candidate = train.T.tocsr()
    kept = []
    for first in range(0, train.shape[1], _CANDIDATES_AT_ONCE):
        block = (by_candidate[first : first + _CANDIDATES_AT_ONCE] @ weighted).tocsr()
        row = first + np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        block.data /= norm[row] * norm[block.indices] + np.float32(shrink)
        kept.append(keep_highest(block, num_neighbours))
    return sparse.vstack(kept).T.tocsr()
