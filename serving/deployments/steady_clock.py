"""The time as events are stamped with it: epoch milliseconds that no turning back of the machine's clock takes back."""

import time
from collections.abc import Callable


class SteadyClock:
    """A clock that follows the machine's forward, and goes on by itself where that is turned back.

    Events that seem to come from the future are refused, and of two changes of a room the newer counts. So an endpoint
    whose clock went back an hour would refuse all events for an hour. One that stays ahead, until it is started again,
    only takes events of clients whose clocks are as far ahead.

    Args:
        wall_ns: The machine's clock, epoch nanoseconds, which may jump; by default ``time.time_ns``.
        monotonic_ns: Nanoseconds since some instant, which never jump; by default ``time.monotonic_ns``.

    Example:
        >>> wall, passed = iter([5_000_000_000, 1_400_000_000, 9_000_000_000]), iter([0, 2_000_000, 3_000_000])
        >>> clock = SteadyClock(wall_ns=lambda: next(wall), monotonic_ns=lambda: next(passed))
        >>> clock(), clock(), clock()
        (5000, 5002, 9000)
    """

    def __init__(
        self, *, wall_ns: Callable[[], int] | None = None, monotonic_ns: Callable[[], int] | None = None
    ) -> None:
        self._wall_ns = wall_ns or time.time_ns
        self._monotonic_ns = monotonic_ns or time.monotonic_ns
        self._began_ns: int | None = None

    def __call__(self) -> int:
        """Return the time, epoch milliseconds."""
        passed_ns, began_ns = self._monotonic_ns(), self._began_ns
        here_ns = self._wall_ns() - passed_ns
        if began_ns is None or here_ns > began_ns:
            self._began_ns = began_ns = here_ns
        return (began_ns + passed_ns) // 1_000_000
