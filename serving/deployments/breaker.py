"""When a model has failed too often to be asked again."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

REQUESTS_REMEMBERED: Final = 100
"""Of so many newest requests, failures are counted."""


class Breaker:
    """Opens after too many failures among the newest requests, and closes on probation some time later.

    On probation one failure opens it again; as many successes in a row as are remembered end the probation.

    Args:
        most_failures: Failures among the newest requests that are still borne.
        retry_s: How long it stays open.
        clock: Seconds that only go forward.

    Example:
        >>> breaker = Breaker(most_failures=1, retry_s=30.0, clock=lambda: 0.0)
        >>> breaker.record(failed=True), breaker.record(failed=True), breaker.is_open()
        (False, True, True)
    """

    def __init__(self, *, most_failures: int, retry_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_failures = most_failures
        self._retry_s = retry_s
        self._clock = clock
        self._newest: deque[bool] = deque(maxlen=REQUESTS_REMEMBERED)
        self._failures = 0
        self._borne = most_failures
        self._open_until: float | None = None

    def is_open(self) -> bool:
        """Say whether the model should not be asked now."""
        if self._open_until is None:
            return False
        if self._clock() < self._open_until:
            return True
        self._open_until = None
        return False

    def record(self, *, failed: bool) -> bool:
        """Count a request, and say whether it was the one that opened the breaker."""
        newest = self._newest
        if len(newest) == REQUESTS_REMEMBERED:
            self._failures -= newest[0]
            if not self._failures:
                self._borne = self._most_failures
        newest.append(failed)
        if not failed:
            return False
        self._failures += 1
        if self._failures <= self._borne or self._open_until is not None:
            return False
        self._open_until = self._clock() + self._retry_s
        self._borne = 0
        self._failures = 0
        newest.clear()
        return True
