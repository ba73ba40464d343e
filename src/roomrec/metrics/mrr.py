"""MRR: how far down the first chosen item stands."""

import numpy as np
import numpy.typing as npt


def reciprocal_rank(
    ranks: npt.NDArray[np.int64], target_offsets: npt.NDArray[np.int64], *, k: int
) -> npt.NDArray[np.float64]:
    """Return for each query one over the rank of its first target, 0 if that is not among the first k.

    Args:
        ranks: Ranks of all targets, from 1, shape ``[T]``.
        target_offsets: Where each query's targets begin, each query has at least one, shape ``[Q + 1]``.
        k: How many are shown.

    Returns:
        Values between 0 and 1, shape ``[Q]``; the mean is MRR@k.

    Example:
        >>> reciprocal_rank(np.array([4, 2, 11]), np.array([0, 2, 3]), k=10)
        array([0.5, 0. ])
    """
    first = np.minimum.reduceat(ranks, target_offsets[:-1])
    return np.where(first <= k, 1.0 / first, 0.0)
