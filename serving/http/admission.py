"""Whom to answer when more is asked than can be answered: a queue no longer than what is still worth waiting for."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

_SMOOTHING: Final = 0.05
_FIRST_GUESS_S: Final = 0.0005
_PRESSED_FROM: Final = 0.7
_MOST_AT_ONCE: Final = 10.0
"""A piece counts as at most so many times the usual: one pause of the process is no reason to refuse those after it."""


class AdmissionQueue:
    """Work in order of arrival, one piece at a time, refused at the door when the wait would be too long.

    The wait is foretold as the number of pieces before it times what one has taken of late, counted from the end of the
    one before: what else is done between two pieces makes those that wait late as well. So a burst that passes in time
    is answered whole, and of a load above capacity the excess is refused at once instead of making everybody late.

    Args:
        max_wait_s: Longest wait that is still accepted.
        clock: Seconds, monotonic.

    Raises:
        ValueError: If ``max_wait_s`` is not above 0.

    Example:
        >>> queue = AdmissionQueue(max_wait_s=0.001)
        >>> done = []
        >>> [queue.admit(lambda number=number: done.append(number)) for number in range(4)]
        [True, True, True, False]
        >>> while queue: queue.work()
        >>> done
        [0, 1, 2]
    """

    def __init__(self, *, max_wait_s: float, clock: Callable[[], float] = time.perf_counter) -> None:
        if max_wait_s <= 0:
            raise ValueError(f"max_wait_s must be above 0, received {max_wait_s}")
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._waiting: deque[tuple[Callable[[], None], float]] = deque()
        self._service_s = _FIRST_GUESS_S
        self._ended = 0.0
        self._measured_from = clock()
        self._sojourn_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_pressed(self) -> bool:
        """Whether the wait comes near the longest that is accepted, so that each should take less time if it can."""
        return len(self._waiting) * self._service_s > _PRESSED_FROM * self._max_wait_s

    def admit(self, work: Callable[[], None]) -> bool:
        """Take a piece of work, or say that it would have to wait for too long."""
        if len(self._waiting) * self._service_s > self._max_wait_s:
            return False
        self._waiting.append((work, self._clock()))
        return True

    def work(self) -> None:
        """Do the piece that has waited longest.

        Raises:
            IndexError: If nothing waits.
        """
        work, arrived = self._waiting.popleft()
        try:
            work()
        finally:
            ended = self._clock()
            # one that waited already when the last one ended has had to wait for all that was done since
            turn = ended - max(arrived, self._ended)
            self._ended = ended
            self._service_s += _SMOOTHING * (min(turn, _MOST_AT_ONCE * self._service_s) - self._service_s)
            self._sojourn_s += ended - arrived

    def take_ongoing(self, *, waited_beside_s: float = 0.0) -> float:
        """Return how many waited or were being answered, on average since this was asked last.

        All stays over the time are the mean number there (Little's law).

        Args:
            waited_beside_s: How long others have waited meanwhile, who are not in this queue.
        """
        now = self._clock()
        ongoing = (self._sojourn_s + waited_beside_s) / max(now - self._measured_from, 1e-9)
        self._measured_from, self._sojourn_s = now, 0.0
        return ongoing
