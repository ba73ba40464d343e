"""Places of the chosen items among all candidates, ties counted against the model."""

import numpy as np
import numpy.typing as npt


def pessimistic_ranks(scores: npt.NDArray[np.floating], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rank the targets of one question among all its candidates, 1 is best.

    A target stands behind every other candidate of the same score, so a model that scores all alike is last, not first.
    Targets of one score stand one behind another in the order given. A score that is not a number stands last. A
    candidate of score ``-inf`` is no candidate.

    Args:
        scores: Score of every candidate, higher is better, shape ``[C]``.
        targets: Places of the targets in ``scores``, distinct, shape ``[t]``.

    Returns:
        Ranks ``[t]`` int64, in the order of ``targets``.

    Example:
        >>> pessimistic_ranks(np.array([0.9, 0.5, 0.5, 0.1]), np.array([1]))
        array([3])
        >>> pessimistic_ranks(np.array([0.9, 0.5, 0.5, 0.1]), np.array([2, 1, 0]))
        array([2, 3, 1])
    """
    num_candidates = len(scores)
    if len(targets) == 1:
        # Counting what is lower, not what is higher or equal, puts NaN last.
        return np.array([num_candidates - np.count_nonzero(scores < scores[targets[0]])], dtype=np.int64)
    chosen = scores[targets]
    ranks = np.array([num_candidates - np.count_nonzero(scores < score) for score in chosen], dtype=np.int64)
    order = np.argsort(ranks, kind="stable")
    # Within a tie all have the rank of the last: give the others the places before it.
    last_of_tie = np.searchsorted(ranks[order], ranks[order], side="right") - 1
    ranks[order] -= last_of_tie - np.arange(len(order))
    return ranks
