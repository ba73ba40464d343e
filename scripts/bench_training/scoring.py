"""The one scorer of all contenders: rank every item by dot product, what the user had before removed."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scripts.bench_training.logs import Int64Array, Log

Float32Array = npt.NDArray[np.float32]

_USERS_AT_ONCE = 512


class Vectors(NamedTuple):
    """What a contender knows about n users and all V items."""

    users: Float32Array
    """[n, D]"""
    items: Float32Array
    """[V, D]"""
    known: npt.NDArray[np.bool_]
    """[V] whether the contender has a vector for the item; others are ranked last"""


def ranks_of_targets(vectors: Vectors, log: Log, users: Int64Array, *, part: str) -> Int64Array:
    """Rank what each user chose among all items, from 1, ties counted against the contender.

    Args:
        vectors: Of these users, as of what ``part`` asks for.
        log: Where targets and earlier items come from.
        users: Numbers of the users, ``[n]``.
        part: ``validation`` or ``test``.
    """
    stops, targets = log.stops(part)[users], log.targets(part)[users]
    starts = log.offsets[:-1][users]
    ranks = np.empty(len(users), dtype=np.int64)
    for first in range(0, len(users), _USERS_AT_ONCE):
        some = slice(first, min(first + _USERS_AT_ONCE, len(users)))
        scores = vectors.users[some] @ vectors.items.T
        scores[:, ~vectors.known] = -np.inf
        for row, (start, stop) in enumerate(zip(starts[some], stops[some], strict=True)):
            scores[row, log.items[start:stop]] = -np.inf
        own = scores[np.arange(len(scores)), targets[some]][:, None]
        ranks[some] = (scores >= own).sum(axis=1)
    return ranks


def quality(ranks: Int64Array, *, k: int = 10) -> dict[str, float]:
    """Return NDCG@k and HR@k of one target a user.

    Example:
        >>> quality(np.array([1, 3, 11]))
        {'ndcg@10': 0.5, 'hr@10': 0.6666666666666666}
    """
    hit = ranks <= k
    gain = np.where(hit, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
    return {f"ndcg@{k}": float(gain.mean()), f"hr@{k}": float(hit.mean())}
