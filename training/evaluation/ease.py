"""EASE as a scorer: the best linear item-to-item model, in closed form."""

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import lapack

from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from training.evaluation.interactions import EntityScores, Interactions

Float32Array = npt.NDArray[np.float32]


class Ease:
    """Ridge regression of every item on all others, diagonal zero.

    Fitting inverts a dense matrix of the entities: n of them take ``4 n^2`` bytes, a little over twice that while
    fitting (20,000: 1.6 and 3.6 GB), and ``n^3`` multiplications. Larger catalogues are cut to the most popular
    ``max_items``; the others count as zero and are ordered by popularity.

    Args:
        dataset: Where the histories come from.
        regularization: Lambda; more for larger logs.
        max_items: The most products and streamers that are modelled.
        half_life: After so many newer events an event of the history counts half; None counts all alike.
        name: What tables call it.

    Raises:
        ValueError: If ``regularization`` is not positive or ``max_items`` below 1.

    Reference:
        Steck 2019. Deliberately different: the half-life when scoring.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        regularization: float = 250.0,
        max_items: int = 20_000,
        half_life: float | None = 2.0,
        name: str = "ease",
    ) -> None:
        if not regularization > 0:
            raise ValueError(f"regularization must be positive, received {regularization}")
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, received {max_items}")
        self.name = name
        self._half_life = half_life
        self._interactions = Interactions(dataset)
        train = self._interactions.train
        count = np.bincount(train.indices, minlength=train.shape[1])
        self._kept = np.sort(np.argsort(-count, kind="stable")[: min(max_items, np.count_nonzero(count))])
        self._weights = ease_weights(train[:, self._kept], regularization)

    def prepare(self, queries: Queries) -> EntityScores:
        """Multiply each history with the weights."""
        history = self._interactions.of(queries, half_life=self._half_life)
        scores = np.zeros(history.shape, dtype=np.float32)
        scores[:, self._kept] = history[:, self._kept] @ self._weights
        return EntityScores(self._interactions, scores)


def ease_weights(train: sparse.csr_matrix, regularization: float) -> Float32Array:
    """Return the weights ``[n, n]`` of what was had (rows) for what is scored (columns), diagonal zero.

    Args:
        train: Ones where a user had to do with an item, shape ``[U, n]``.
        regularization: Lambda.
    """
    # One matrix in the order of LAPACK, overwritten by its Cholesky factor, then by its inverse.
    gram = np.asfortranarray((train.T @ train).toarray().astype(np.float32, copy=False))
    gram[np.diag_indices_from(gram)] += np.float32(regularization)
    factor, failed = lapack.spotrf(gram, lower=True, overwrite_a=True, clean=False)
    inverse, failed_too = lapack.spotri(factor, lower=True, overwrite_c=True)
    if failed or failed_too:
        raise ValueError(f"regularization {regularization} is too small: the matrix cannot be inverted")
    diagonal = np.diagonal(inverse).copy()
    for column in range(len(diagonal)):  # the upper half is stale: mirror the lower one, a column at a time
        inverse[column, column:] = inverse[column:, column]
    inverse /= -diagonal
    np.fill_diagonal(inverse, 0.0)
    weights: Float32Array = inverse
    return weights
