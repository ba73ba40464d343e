"""Long work in pieces: one piece of anybody's at a time, and a look at the sockets after each."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_SMOOTHING: Final = 0.05
_FIRST_GUESS_S: Final = 0.001


class Turns:
    """Who has a long piece of work does a part of it, and then lets everybody else have a turn.

    ``asyncio.sleep(0)`` lets each of a hundred workers do its next piece before anybody else is heard. Here only one of
    them does, in order of asking, so that a request waits for one piece however many are at work.

    Args:
        clock: Seconds, monotonic.

    Example:
        >>> async def work(turns, name, said):
        ...     for piece in range(2):
        ...         await turns.take()
        ...         said.append(f"{name}{piece}")
        >>> async def both():
        ...     turns, said = Turns(), []
        ...     await asyncio.gather(work(turns, "a", said), work(turns, "b", said))
        ...     return said
        >>> asyncio.run(both())
        ['a0', 'b0', 'a1', 'b1']
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()
        self._is_granting = False
        self._granted_at = 0.0
        self._turn_s = _FIRST_GUESS_S
        self._waited_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def foretold_s(self) -> float:
        """How long whoever asks now would wait for the first turn."""
        return len(self._waiting) * self._turn_s

    def take_waited_s(self) -> float:
        """Return how long all together have waited since this was asked last."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    async def take(self) -> None:
        """Wait for the next turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((turn, self._clock()))
        if not self._is_granting:
            self._is_granting = True
            self._granted_at = self._clock()
            loop.call_soon(self._grant)
        await turn

    def _grant(self) -> None:
        now = self._clock()
        while self._waiting:
            turn, asked_at = self._waiting.popleft()
            if not turn.done():  # else given up meanwhile
                turn.set_result(None)
                self._waited_s += now - asked_at
                self._turn_s += _SMOOTHING * (now - self._granted_at - self._turn_s)
                self._granted_at = now
                break
        self._is_granting = bool(self._waiting)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._grant)
