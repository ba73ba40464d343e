"""NDCG: chosen items count more the higher they stand, relative to the best order possible."""

import numpy as np
import numpy.typing as npt

from roomrec.metrics.targets import sum_by_query


def ndcg(ranks: npt.NDArray[np.int64], target_offsets: npt.NDArray[np.int64], *, k: int) -> npt.NDArray[np.float64]:
    """Return for each query the discounted gain of its targets among the first k over that of the ideal order.

    Every target is worth the same; the ideal order shows ``min(k, number of targets)`` of them first.

    Args:
        ranks: Ranks of all targets, from 1, distinct within a query, shape ``[T]``.
        target_offsets: Where each query's targets begin, shape ``[Q + 1]``.
        k: How many are shown.

    Returns:
        Values between 0 and 1, shape ``[Q]``; the mean is NDCG@k.

    Example:
        >>> ndcg(np.array([1, 3, 11]), np.array([0, 1, 2, 3]), k=10)
        array([1. , 0.5, 0. ])

    Reference:
        Jarvelin & Kekalainen 2002, with binary gains and the discount 1 / log2(1 + rank).
    """
    gains = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
    return np.asarray(sum_by_query(gains, target_offsets) / ideal[np.minimum(np.diff(target_offsets), k)])
