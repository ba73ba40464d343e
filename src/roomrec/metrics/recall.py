"""Recall: the share of the chosen items that was shown."""

import numpy as np
import numpy.typing as npt

from roomrec.metrics.targets import sum_by_query


def recall(ranks: npt.NDArray[np.int64], target_offsets: npt.NDArray[np.int64], *, k: int) -> npt.NDArray[np.float64]:
    """Return for each query the share of its targets among the first k.

    With one target a query this is the hit rate. A query with more than k targets cannot reach 1, as in the tables of
    LightGCN and its successors.

    Args:
        ranks: Ranks of all targets, from 1, shape ``[T]``.
        target_offsets: Where each query's targets begin, shape ``[Q + 1]``.
        k: How many are shown.

    Returns:
        Shares ``[Q]``; the mean is recall@k.

    Example:
        >>> recall(np.array([3, 1, 11, 2, 9]), np.array([0, 1, 5]), k=2)
        array([0. , 0.5])
    """
    return sum_by_query(ranks <= k, target_offsets) / np.diff(target_offsets)
