"""When requests are to be sent: instants of an open-loop load, and a timer that is exact to tens of microseconds."""

import asyncio
import ctypes
import heapq
import os
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Final, NamedTuple

import numpy as np

now: Final = time.monotonic
"""The clock of everything here, seconds. The kernel's timer below runs by the same one."""

_BLOCK = 4096
_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1
_NONBLOCKING_CLOEXEC = 0o2004000


class Phase(NamedTuple):
    """A stretch of time with one rate."""

    rate: float
    """a second; 0 is a pause"""
    seconds: float


def poisson_instants(phases: list[Phase], rng: np.random.Generator) -> Iterator[float]:
    """Yield instants of a Poisson process whose rate changes from phase to phase.

    Args:
        phases: One after another.
        rng: Decides the gaps.

    Yields:
        Seconds since the first phase began, ascending.

    Example:
        >>> instants = list(poisson_instants([Phase(100.0, 1.0), Phase(1000.0, 1.0)], np.random.default_rng(0)))
        >>> sum(instant < 1 for instant in instants), sum(instant >= 1 for instant in instants)
        (90, 1006)
    """
    begin = 0.0
    for rate, seconds in phases:
        instant, end = begin, begin + seconds
        while rate > 0 and instant < end:
            block = (instant + np.cumsum(rng.exponential(1 / rate, _BLOCK))).tolist()
            for instant in block:
                if instant >= end:
                    break
                yield instant
        begin = end


class Agenda:
    """Calls functions at their instants, from the running event loop.

    Timers of event loops are a millisecond coarse, as long as a whole answer takes. This one is a timer of the kernel
    (``timerfd``) that the loop waits for like for a socket.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = count()
        self._armed = float("inf")
        self._timer = _Timer()
        self._loop.add_reader(self._timer.descriptor, self._fire)

    def at(self, instant: float, function: Callable[[float], None]) -> None:
        """Call a function with its own instant, as soon as that has come.

        Args:
            instant: By ``now()``; one that has passed is called at once, from the loop.
            function: Called with ``instant``; what it is late by is ``now() - instant``.
        """
        heapq.heappush(self._entries, (instant, next(self._number), function))
        if instant < self._armed:
            self._arm(instant)

    def follow(self, instants: Iterator[float], function: Callable[[float], None]) -> None:
        """Call a function at each of many ascending instants, however late the one before was."""

        def fire(instant: float) -> None:
            if (following := next(instants, None)) is not None:
                self.at(following, fire)
            function(instant)

        if (first := next(instants, None)) is not None:
            self.at(first, fire)

    async def until(self, instant: float) -> None:
        """Wait for an instant."""
        come = self._loop.create_future()
        self.at(instant, lambda _: None if come.done() else come.set_result(None))
        await come

    def close(self) -> None:
        """Forget what has not been called."""
        self._entries.clear()
        self._loop.remove_reader(self._timer.descriptor)
        self._timer.close()

    def _fire(self) -> None:
        entries, until = self._entries, now()
        self._armed = 0.0  # what is put in meanwhile need not arm the timer
        while entries and entries[0][0] <= until:
            instant, _, function = heapq.heappop(entries)
            function(instant)
        self._arm(entries[0][0] if entries else float("inf"))

    def _arm(self, instant: float) -> None:
        self._armed = instant
        self._timer.set(instant)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class _Timer:
    """One timer of the kernel; readable once its instant has come, until it is set again."""

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCKING_CLOEXEC)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "the kernel gives no timer")
        self._spec = _TimerSpec()
        self._pointer = ctypes.byref(self._spec)

    def set(self, instant: float) -> None:
        value = self._spec.value
        if instant == float("inf"):
            value.seconds = value.nanoseconds = 0  # disarmed
        else:
            value.seconds = whole = max(int(instant), 0)
            value.nanoseconds = max(int((instant - whole) * 1e9), 1)
        self._libc.timerfd_settime(self.descriptor, _ABSOLUTE, self._pointer, None)

    def close(self) -> None:
        os.close(self.descriptor)
