"""Live rooms by popularity, kept in order, so that a stranger's slate needs no pass over everything that is live."""

import asyncio
import time
from bisect import insort
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import closing
from typing import Final

from roomrec.policy.fallback import MIN_POPULAR_ENTERS, popular_now, rank_by_popularity
from serving.state.live_catalogue import LiveCatalogue

_PERIOD_S: Final = 0.1
_SHARE_OF_TIME: Final = 0.02
_AT_ONCE: Final = 250
"""Rooms that are put in order without a pause"""

_FEW: Final = 16

_KEPT: Final = 2_000
"""Rooms whose order is remembered: more than anybody asks for, refused ones included"""


class PopularRooms:
    """What draws viewers now, then what drew them before, of one model's counts.

    The order is made anew ten times a second, and where much is live, in pieces between requests and less often, so
    that it costs at most a fiftieth of the time; of many rooms the first two thousand are remembered. A room that
    starts meanwhile takes its place at once, or with the next piece where hundreds do; one that has ended is skipped.

    Args:
        catalogue: What is live.
        before: Long-run counts of streamers.
    """

    def __init__(self, catalogue: LiveCatalogue, before: Mapping[str, float]) -> None:
        self._catalogue = catalogue
        self._before = before
        self._order: list[tuple[float, str]] = []
        self._known: set[str] = set()
        self._started: dict[str, None] = {}  # while the order is made anew, and not in it yet
        self._waiting: list[str] = []  # for their place
        self._is_making = False
        self._made_at_s = float("-inf")
        self._took_s = 0.0
        self.crowded: frozenset[str] = frozenset()
        """Rooms of which one may truly say that they are popular now"""

    @property
    def is_due(self) -> bool:
        """Whether the order should be made anew."""
        if self._is_making:
            return False
        return time.monotonic() - self._made_at_s > max(_PERIOD_S, self._took_s / _SHARE_OF_TIME)

    @property
    def is_quick(self) -> bool:
        """Whether making the order is short enough for a request to wait for it, or cannot be put off."""
        return len(self._catalogue.rooms) <= _AT_ONCE or not self._order

    def follow(self, room_ids: Collection[str]) -> None:
        """Give rooms that have started their place, and forget those that have ended."""
        rooms, known = self._catalogue.rooms, self._known
        started = [room_id for room_id in room_ids if room_id in rooms and room_id not in known]
        known.difference_update(room_id for room_id in room_ids if room_id not in rooms)
        known.update(started)
        if self._is_making:
            self._started.update(dict.fromkeys(started))
        self._place(started[:_AT_ONCE])
        self._waiting += started[_AT_ONCE:]

    async def place_waiting(self) -> None:
        """Give rooms their place that started hundreds at a time."""
        while self._waiting:
            piece = self._waiting[-_AT_ONCE:]
            del self._waiting[-_AT_ONCE:]
            self._place(piece)
            await asyncio.sleep(0)

    def make(self, *, at_ms: int) -> None:
        """Make the order anew, at once."""
        for _ in self._make(at_ms):
            pass

    async def make_in_pieces(self, *, at_ms: int, rest_s: float = 0.0) -> None:
        """Make the order anew while requests go on, with a rest after each piece."""
        with closing(self._make(at_ms)) as pieces:
            for _ in pieces:
                await asyncio.sleep(rest_s)
        await self.place_waiting()

    def ranked(self) -> Iterator[tuple[str, float]]:
        """Yield live rooms with their scores, best first."""
        rooms = self._catalogue.rooms
        return ((room_id, 0.0 - score) for score, room_id in self._order if room_id in rooms)

    def _make(self, at_ms: int) -> Generator[None, None, None]:
        began, spent = time.monotonic(), 0.0
        rooms = self._catalogue.rooms
        order: list[tuple[float, str]] = []
        entered: dict[str, float] = {}
        num_entered = 0
        self._started = {}
        self._is_making = True
        try:
            room_ids = list(rooms)
            for first in range(0, len(room_ids), _AT_ONCE):
                if first:
                    spent += time.monotonic() - began
                    yield
                    began = time.monotonic()
                    rooms = self._catalogue.rooms
                piece = [room_id for room_id in room_ids[first : first + _AT_ONCE] if room_id in rooms]
                now = self._catalogue.enters(at_ms=at_ms, room_ids=piece)
                num_entered += len(now)
                entered.update((each, count) for each, count in now.items() if count >= MIN_POPULAR_ENTERS)
                order += self._scored(piece, now)
                order.sort()
                del order[_KEPT:]
                self._known.update(piece)
                for room_id in piece:
                    self._started.pop(room_id, None)
            self._order, self.crowded = order, popular_now(entered, num_entered=num_entered)
            self._waiting = list(self._started)
            self._took_s = spent + time.monotonic() - began
            if room_ids:  # an order of nothing is not worth keeping until the next is due
                self._made_at_s = time.monotonic()
        finally:
            self._is_making = False

    def _place(self, room_ids: list[str]) -> None:
        if len(room_ids) < _FEW:
            for entry in self._scored(room_ids, {}):
                insort(self._order, entry)
        else:
            self._order += self._scored(room_ids, {})
            self._order.sort()

    def _scored(self, room_ids: list[str], now: Mapping[str, float]) -> list[tuple[float, str]]:
        scores = rank_by_popularity(room_ids, now=now, before=self._counts(room_ids))
        return [(-score, room_id) for room_id, score in scores]

    def _counts(self, room_ids: Collection[str]) -> dict[str, float]:
        rooms, before = self._catalogue.rooms, self._before
        counts = {}
        for room_id in room_ids:
            room = rooms.get(room_id)
            if room is not None and room.streamer_id is not None:
                counts[room_id] = before.get(room.streamer_id, 0.0)
        return counts
