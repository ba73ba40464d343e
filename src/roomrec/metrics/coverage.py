"""Coverage: the share of what could be shown that is ever shown."""

import numpy as np
import numpy.typing as npt

from roomrec.ids import PAD_INDEX


def coverage(shown: npt.NDArray[np.int64], *, num_candidates: int, k: int) -> float:
    """Return the share of all candidates that are among the first k of at least one query.

    Args:
        shown: Items by query, best first, ``PAD_INDEX`` where there are fewer, shape ``[Q, K]``, K at least k.
        num_candidates: How many distinct items were a candidate of any query.
        k: How many are shown.

    Returns:
        Between 0 and 1.

    Example:
        >>> coverage(np.array([[5, 7, 9], [5, 8, 0]]), num_candidates=4, k=2)
        0.75
    """
    different = np.unique(shown[:, :k])
    return int(np.count_nonzero(different != PAD_INDEX)) / num_candidates
