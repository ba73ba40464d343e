"""What to show when a model cannot tell: what is popular among what is live."""

from collections.abc import Mapping, Sequence
from typing import Final

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


def popular_now(now: Mapping[str, float]) -> frozenset[str]:
    """Return the ids of which one may truly say that they are popular now.

    Args:
        now: Decayed enters of everything live.

    Example:
        >>> sorted(popular_now({"a": 9.0, "b": 4.0, "c": 3.5, "d": 3.2, "e": 0.5}))
        ['a', 'b', 'c']
    """
    allowed = max(MIN_POPULAR_ROOMS, int(len(now) * POPULAR_SHARE))
    crowded = sorted(((count, item) for item, count in now.items() if count >= MIN_POPULAR_ENTERS), reverse=True)
    return frozenset(item for _, item in crowded[:allowed])


def _share(count: float) -> float:
    return count / (count + 1.0)
