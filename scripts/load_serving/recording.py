"""What became of requests of one kind: latencies from the intended instant, service times, errors."""

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from scripts.load_serving.connections import Exchange

PERCENTILES: Final = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999}
"""Those reported, in thousandths, so that ranks are whole numbers."""


class Recorder:
    """Everything measured of one kind of request, 32 bytes a request, so that percentiles are exact.

    Args:
        since: Requests intended before this instant are warm-up and not recorded.
        until: When the measured time ends; answers to requests of that time are recorded later too, and are no part of
            what was achieved in it.
    """

    def __init__(self, since: float = 0.0, until: float = float("inf")) -> None:
        self.since = since
        self.until = until
        self.offered = 0
        """requests whose instant came"""
        self.latency = array("d")
        """seconds from the intended instant to the answer, of answers 200 to 299"""
        self.service = array("d")
        """seconds from the actual sending to the answer, of the same"""
        self.refused = array("d")
        """seconds from the intended instant to an answer 429 or 503"""
        self.lag = array("d")
        """seconds from the intended instant until the generator had a request ready to send, of all"""
        self.in_time = 0
        """answers 200 to 299 that came before ``until``"""
        self.refused_without_retry_after = 0
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.first_problem: str | None = None

    def record(self, exchange: Exchange) -> None:
        """Count one request that is over."""
        due = exchange.due
        if due < self.since:
            return
        self.offered += 1
        self.lag.append(exchange.dispatched - due)
        if exchange.error is not None:
            self.errors[exchange.error] += 1
            return
        status = exchange.status
        self.statuses[status] += 1
        if 200 <= status < 300:
            self.latency.append(exchange.answered - due)
            self.service.append(exchange.answered - exchange.sent)
            self.in_time += exchange.answered <= self.until
            return
        if status in (429, 503):
            self.refused.append(exchange.answered - due)
            self.refused_without_retry_after += exchange.header(b"retry-after") is None
        if self.first_problem is None:
            self.first_problem = f"{status} {exchange.body[:200].decode(errors='replace')}"

    def summary(self, seconds: float) -> dict[str, Any]:
        """Say everything in numbers.

        Args:
            seconds: How long was measured.
        """
        return {
            "offered_rps": round(self.offered / seconds, 1),
            "achieved_rps": round(self.in_time / seconds, 1),
            "served": len(self.latency),
            "latency_ms": milliseconds(self.latency),
            "service_ms": milliseconds(self.service),
            "refused": len(self.refused),
            "refused_ms": milliseconds(self.refused),
            "refused_without_retry_after": self.refused_without_retry_after,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "errors": dict(sorted(self.errors.items())),
            "lag_ms": milliseconds(self.lag),
            "first_problem": self.first_problem,
        }


def milliseconds(seconds: Sequence[float]) -> dict[str, float] | None:
    """Return percentiles, mean and maximum in milliseconds, None of nothing.

    A percentile is the smallest value that so many per cent of all do not exceed: one that was really measured.

    Example:
        >>> milliseconds([0.004, 0.001, 0.002, 0.003])
        {'p50': 2.0, 'p90': 4.0, 'p95': 4.0, 'p99': 4.0, 'p99.9': 4.0, 'max': 4.0, 'mean': 2.5}
    """
    if not len(seconds):
        return None
    values = np.sort(np.asarray(seconds)) * 1000
    found = {name: percentile(values, thousandths) for name, thousandths in PERCENTILES.items()}
    found |= {"max": float(values[-1]), "mean": float(values.mean())}
    return {name: round(value, 3) for name, value in found.items()}


def percentile(ascending: np.ndarray, thousandths: int) -> float:
    """Return the smallest of some values that so many thousandths of them do not exceed."""
    return float(ascending[-(-len(ascending) * thousandths // 1000) - 1])
