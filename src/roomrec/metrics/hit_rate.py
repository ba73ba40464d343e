"""Hit rate: whether any of the chosen items was shown."""

import numpy as np
import numpy.typing as npt

from roomrec.metrics.targets import sum_by_query


def hit_rate(ranks: npt.NDArray[np.int64], target_offsets: npt.NDArray[np.int64], *, k: int) -> npt.NDArray[np.float64]:
    """Say for each query whether a target is among the first k.

    Args:
        ranks: Ranks of all targets, from 1, shape ``[T]``.
        target_offsets: Where each query's targets begin, shape ``[Q + 1]``.
        k: How many are shown.

    Returns:
        1.0 or 0.0 for each query, shape ``[Q]``; the mean is HR@k.

    Example:
        >>> hit_rate(np.array([3, 1, 11]), np.array([0, 1, 3]), k=2)
        array([0., 1.])
    """
    return np.asarray(sum_by_query(ranks <= k, target_offsets) > 0, dtype=np.float64)
