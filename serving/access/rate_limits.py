"""How often a key may be used: a bucket that fills at a steady rate, and from which every request takes one."""

import math
from typing import NamedTuple


class RateLimit(NamedTuple):
    """Requests a second in the long run, and how many may come at once."""

    requests_per_s: float
    burst: float

    def share(self, num_replicas: int) -> "RateLimit":
        """Return the part of one of several replicas, which count apart; at least one request fits into it."""
        return RateLimit(self.requests_per_s / num_replicas, max(1.0, self.burst / num_replicas))


class TokenBucket:
    """One key's bucket, full at first: two numbers, whatever the traffic.

    Args:
        limit: How fast it fills and how much it holds.

    Example:
        >>> bucket = TokenBucket(RateLimit(requests_per_s=2, burst=1))
        >>> bucket.take(at_s=10.0), bucket.take(at_s=10.0), bucket.take(at_s=10.5)
        (0.0, 0.5, 0.0)
    """

    __slots__ = ("_at_s", "_left", "limit")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._left = limit.burst
        self._at_s = -math.inf

    def take(self, at_s: float) -> float:
        """Take one request out of the bucket.

        Args:
            at_s: Now, by a clock that never goes back.

        Returns:
            0 if there was one, otherwise seconds until there will be.
        """
        rate, burst = self.limit
        left = min(burst, self._left + (at_s - self._at_s) * rate)
        self._at_s = at_s
        if left >= 1.0:
            self._left = left - 1.0
            return 0.0
        self._left = left
        return (1.0 - left) / rate
