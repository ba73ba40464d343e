"""Novelty: how surprising the shown items are to somebody who knows what is popular."""

import numpy as np
import numpy.typing as npt

from roomrec.ids import PAD_INDEX


def novelty(shown: npt.NDArray[np.int64], *, counts: npt.NDArray[np.int64], k: int) -> float:
    """Return the mean surprise, in bits, of the first k items of all queries.

    The surprise of an item is -log2 of its share of all events, one event being added to each item so that an item
    nobody has met yet is surprising but not infinitely so.

    Args:
        shown: Items by query, best first, ``PAD_INDEX`` where there are fewer, shape ``[Q, K]``, K at least k.
        counts: Events of each item in the train split, shape ``[V]``; row 0 is padding.
        k: How many are shown.

    Returns:
        Bits, at least 0; 0.0 if nothing is shown. Higher is less obvious.

    Example:
        >>> novelty(np.array([[2]]), counts=np.array([0, 2, 0]), k=1)
        2.0

    Reference:
        Zhou et al. 2010, self-information; add-one smoothing is ours.
    """
    items = shown[:, :k]
    items = items[items != PAD_INDEX]
    if not len(items):
        return 0.0
    smoothed = counts[1:].astype(np.float64) + 1.0
    surprise = np.log2(smoothed.sum()) - np.log2(smoothed)
    return float(surprise[items - 1].mean())
