"""EASE as a scorer: the best linear item-to-item model, in closed form."""

from typing import Protocol

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

    Fitting inverts a dense matrix of the users or of the items, whichever are fewer: n of them take ``8 n^2`` bytes at
    most (20,000: 3.2 GB) and ``n^3`` multiplications. Where there are more than ``max_size`` of both, the items are cut
    to the ``max_size`` most popular; the others count as zero and are ordered by popularity.

    Args:
        dataset: Where the histories come from.
        regularization: Lambda; more for larger logs.
        max_size: The largest matrix that is inverted, in rows.
        half_life: What was last had before so many others counts half; None counts all alike.
        name: What tables call it.

    Raises:
        ValueError: If ``regularization`` is not positive or ``max_size`` below 1.

    Reference:
        Steck 2019. Deliberately different: the half-life when scoring.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        regularization: float = 500.0,
        max_size: int = 20_000,
        half_life: float | None = 2.0,
        name: str = "ease",
    ) -> None:
        if not regularization > 0:
            raise ValueError(f"regularization must be positive, received {regularization}")
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1, received {max_size}")
        self.name = name
        self._half_life = half_life
        self._interactions = Interactions(dataset)
        train = self._interactions.train[np.diff(self._interactions.train.indptr) > 0]
        count = np.bincount(train.indices, minlength=train.shape[1])
        num_known = int(np.count_nonzero(count))
        most = num_known if train.shape[0] <= max_size else max_size
        self._kept = np.sort(np.argsort(-count, kind="stable")[: min(most, num_known)])
        kept = train[:, self._kept].tocsr()
        fewer_users = kept.shape[0] < kept.shape[1]
        self._regression: Regression = (ByUsers if fewer_users else ByItems)(kept, regularization)

    def prepare(self, queries: Queries) -> EntityScores:
        """Multiply each history with the weights."""
        history = self._interactions.of(queries, half_life=self._half_life)
        scores = np.zeros(history.shape, dtype=np.float32)
        scores[:, self._kept] = self._regression.scores(history[:, self._kept].tocsr())
        return EntityScores(self._interactions, scores)


class Regression(Protocol):
    """EASE fitted to ``train`` ``[U, n]``, ones where a user had to do with an item."""

    def __init__(self, train: sparse.csr_matrix, regularization: float) -> None: ...

    def scores(self, history: sparse.csr_matrix) -> Float32Array:
        """Score all items for each history ``[b, n]``."""
        ...


class ByItems:
    """Keeps the weights ``[n, n]`` of what was had (rows) for what is scored (columns)."""

    def __init__(self, train: sparse.csr_matrix, regularization: float) -> None:
        inverse = _inverse((train.T @ train).toarray(), regularization)
        inverse /= -np.diagonal(inverse).copy()
        np.fill_diagonal(inverse, 0.0)
        self.weights = inverse

    def scores(self, history: sparse.csr_matrix) -> Float32Array:
        """Multiply with the weights."""
        scores: Float32Array = history @ self.weights
        return scores


class ByUsers:
    """The same scores from a matrix of the users, ``[U, U]``; the weights of the items are never made.

    The inverse of ``X'X + lambda`` is ``(1 - X'MX) / lambda`` where M is the inverse of ``XX' + lambda``.
    """

    def __init__(self, train: sparse.csr_matrix, regularization: float) -> None:
        self._train = train
        self._inverse = _inverse((train @ train.T).toarray(), regularization)
        explained = np.zeros(train.shape[1], dtype=np.float32)
        by_item = train.tocsc()
        for item, (start, stop) in enumerate(zip(by_item.indptr[:-1], by_item.indptr[1:], strict=True)):
            users = by_item.indices[start:stop]
            explained[item] = self._inverse[np.ix_(users, users)].sum()
        self._diagonal = 1.0 - explained

    def scores(self, history: sparse.csr_matrix) -> Float32Array:
        """Regress each history on the users' and add up what those had."""
        had = history.toarray()
        by_user = (history @ self._train.T).toarray() @ self._inverse
        scores: Float32Array = had - (had - (self._train.T @ by_user.T).T) / self._diagonal
        return scores


def _inverse(gram: Float32Array, regularization: float) -> Float32Array:
    """Invert ``gram + regularization`` in place, symmetric and positive definite."""
    size = len(gram)
    # Symmetric, so the transpose is the same matrix, in the order LAPACK can overwrite.
    columns = np.ascontiguousarray(gram, dtype=np.float32).T
    columns[np.diag_indices(size)] += np.float32(regularization)
    factor, failed = lapack.spotrf(columns, lower=True, overwrite_a=True, clean=False)
    inverse, failed_too = lapack.spotri(factor, lower=True, overwrite_c=True)
    if failed or failed_too:
        raise ValueError(f"regularization {regularization} is too small: the matrix cannot be inverted")
    rows: Float32Array = inverse.T
    for row in range(size):  # only one half was made: mirror it, a row at a time
        rows[row, :row] = rows[:row, row]
    return rows
