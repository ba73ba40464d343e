"""Values of targets, summed over the targets of each query."""

import numpy as np
import numpy.typing as npt


def sum_by_query(values: npt.NDArray[np.generic], target_offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sum the values of each query's targets.

    Args:
        values: One for each target, shape ``[T]``.
        target_offsets: Where each query's targets begin, ascending from 0 to T, shape ``[Q + 1]``.

    Returns:
        Sums ``[Q]``.

    Raises:
        ValueError: If the offsets do not cover the values, or a query has no target: no metric is defined for it.

    Example:
        >>> sum_by_query(np.array([1.0, 2.0, 4.0]), np.array([0, 1, 3]))
        array([1., 6.])
    """
    if target_offsets[0] != 0 or target_offsets[-1] != len(values):
        raise ValueError(
            f"target_offsets run from {target_offsets[0]} to {target_offsets[-1]}, expected 0 to {len(values)}"
        )
    if np.any(np.diff(target_offsets) < 1):
        raise ValueError("target_offsets leave a query without target")
    return np.add.reduceat(values.astype(np.float64), target_offsets[:-1])
