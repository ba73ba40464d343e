"""What to show when a model cannot tell: what is popular among what is live."""

from collections.abc import Mapping, Sequence
from heapq import nlargest
from typing import Final

import numpy as np

POPULARITY_HALF_LIFE_MS: Final = 600_000
"""An enter counts half after ten minutes: "popular now" is about now."""

MIN_POPULAR_ENTERS: Final = 3.0
"""Fewer decayed enters than this are not popularity, however quiet the evening."""

POPULAR_SHARE: Final = 0.1
"""Rooms of this share with the most enters are "popular now", but at least ``MIN_POPULAR_ROOMS`` of them."""

MIN_POPULAR_ROOMS: Final = 3
"""See ``POPULAR_SHARE``."""


def decayed_count(count: float, *, counted_at_ms: int, at_ms: int) -> float:
    """Return what a count of enters is worth at a later instant.

    Args:
        count: Its worth at ``counted_at_ms``.
        counted_at_ms: When it was counted.
        at_ms: The instant asked for; an earlier one counts as ``counted_at_ms``.

    Example:
        >>> decayed_count(8.0, counted_at_ms=0, at_ms=1_200_000)
        2.0
    """
    return count * float(0.5 ** (max(at_ms - counted_at_ms, 0) / POPULARITY_HALF_LIFE_MS))


def add_enter(count: float, *, counted_at_ms: int, at_ms: int) -> tuple[float, int]:
    """Count one more enter, which may be older than those counted before.

    Returns:
        The new count and the instant it stands for, the later of the two.

    Example:
        >>> add_enter(8.0, counted_at_ms=0, at_ms=600_000)
        (5.0, 600000)
        >>> add_enter(5.0, counted_at_ms=600_000, at_ms=0)
        (5.5, 600000)
    """
    if at_ms >= counted_at_ms:
        return decayed_count(count, counted_at_ms=counted_at_ms, at_ms=at_ms) + 1.0, at_ms
    return count + decayed_count(1.0, counted_at_ms=at_ms, at_ms=counted_at_ms), counted_at_ms


def rank_by_popularity(
    ids: Sequence[str], *, now: Mapping[str, float], before: Mapping[str, float]
) -> list[tuple[str, float]]:
    """Order candidates by what draws viewers now, then by what drew them before, then by id.

    Args:
        ids: Candidates.
        now: Decayed enters by id; none means 0.
        before: Long-run counts by id (of the room's streamer, of the product); none means 0.

    Returns:
        ``(id, score)``, best first. The score is the decayed enters plus a share below 1 for the long run.

    Example:
        >>> rank_by_popularity(["a", "b", "c"], now={"c": 2.0}, before={"b": 7.0, "a": 1.0})
        [('c', 2.0), ('b', 0.875), ('a', 0.5)]
    """
    scored = [(item, now.get(item, 0.0) + _share(before.get(item, 0.0))) for item in ids]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def popular_now(now: Mapping[str, float], *, num_entered: int | None = None) -> frozenset[str]:
    """Return the ids of which one may truly say that they are popular now.

    Args:
        now: Decayed enters of everything live; those below ``MIN_POPULAR_ENTERS`` may be left out.
        num_entered: How many there are with those left out; by default as many as given.

    Example:
        >>> sorted(popular_now({"a": 9.0, "b": 4.0, "c": 3.5, "d": 3.2, "e": 0.5}))
        ['a', 'b', 'c']
    """
    allowed = max(MIN_POPULAR_ROOMS, int((len(now) if num_entered is None else num_entered) * POPULAR_SHARE))
    counts = np.fromiter(now.values(), dtype=np.float64, count=len(now))
    # of thousands only those at the edge need be compared one by one
    edge = float(np.partition(counts, -allowed)[-allowed]) if len(counts) > allowed else MIN_POPULAR_ENTERS
    if edge < MIN_POPULAR_ENTERS or len(counts) <= allowed:
        return frozenset(item for item, count in now.items() if count >= MIN_POPULAR_ENTERS)
    above = [item for item, count in now.items() if count > edge]
    at_edge = [item for item, count in now.items() if count == edge]
    return frozenset(above + nlargest(allowed - len(above), at_edge))


def _share(count: float) -> float:
    return count / (count + 1.0)
