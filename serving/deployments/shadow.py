"""A candidate beside the champion: both answer some of what is asked, and nobody sees the candidate's answers."""

import statistics
import time
from collections import deque
from typing import Any, Final

from serving.deployments.loaded import Loaded
from serving.deployments.loading import Asked
from serving.deployments.recommender import Recommender, Slate
from serving.deployments.viewers import Viewer

EVERY_S: Final = 0.05
"""At most one comparison in so many seconds, however much is asked."""

_MOST_WAITING: Final = 32
_TIMES_KEPT: Final = 1_000


class Shadow:
    """Compares one version with the champion on real requests, after they were answered.

    Args:
        candidate: Who is compared.
    """

    def __init__(self, candidate: Loaded) -> None:
        self.candidate = candidate
        self.failed = 0
        self._waiting: deque[Asked] = deque(maxlen=_MOST_WAITING)
        self._requests = 0
        self._overlap = 0.0
        self._same_first = 0
        self._seconds: dict[str, deque[float]] = {name: deque(maxlen=_TIMES_KEPT) for name in ("candidate", "champion")}

    def offer(self, asked: Asked) -> None:
        """Put a request aside; when too many wait, the oldest is forgotten."""
        self._waiting.append(asked)

    def forget(self, user_id: str) -> None:
        """Drop requests of a viewer."""
        self._waiting = deque((each for each in self._waiting if each[0].user_id != user_id), maxlen=_MOST_WAITING)

    def compare_one(self, recommender: Recommender, champion: Loaded) -> None:
        """Let both answer one waiting request, if there is one."""
        if not self._waiting:
            return
        asked = self._waiting.popleft()
        pairs = [("candidate", self.candidate), ("champion", champion)]
        if self._requests % 2:  # whoever is second finds the catalogue warm
            pairs.reverse()
        slates = {name: self._timed(name, recommender, loaded, asked) for name, loaded in pairs}
        self._requests += 1
        if slates["candidate"].degraded == "model_failed":
            self.failed += 1
        new, old = (_shown(slates[name]) for name in ("candidate", "champion"))
        longest = max(len(new), len(old))
        self._overlap += len(set(new) & set(old)) / longest if longest else 1.0
        self._same_first += new[:1] == old[:1]

    def report(self) -> dict[str, Any]:
        """Say how the candidate does: times in milliseconds, overlap and same_first as shares."""
        compared = self._requests
        return {
            "version": self.candidate.version,
            "requests": compared,
            "failed": self.failed,
            "overlap": round(self._overlap / compared, 4) if compared else None,
            "same_first": round(self._same_first / compared, 4) if compared else None,
        } | {
            f"{name}_{label}_ms": round(quantile * 1000, 3) if (quantile := _quantile(seconds, share)) else None
            for name, seconds in self._seconds.items()
            for label, share in (("p50", 0.5), ("p99", 0.99))
        }

    def _timed(self, name: str, recommender: Recommender, loaded: Loaded, asked: Asked) -> Slate:
        query, viewer = asked
        started = time.perf_counter()
        slate = recommender.recommend(query, Viewer(viewer.record), loaded.model)  # of whom nothing is remembered
        self._seconds[name].append(time.perf_counter() - started)
        return slate


def _shown(slate: Slate) -> list[tuple[str, str | None]]:
    return [(item["room_id"], item.get("product_id")) for item in slate.items]


def _quantile(seconds: deque[float], share: float) -> float | None:
    if len(seconds) < 2:
        return seconds[0] if seconds else None
    return statistics.quantiles(seconds, n=100, method="inclusive")[round(share * 100) - 1]
