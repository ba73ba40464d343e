"""Live rooms by popularity, kept in order, so that a stranger's slate needs no pass over everything that is live."""

import asyncio
import time
from bisect import insort
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from roomrec.policy.fallback import popular_now, rank_by_popularity
from serving.state.live_catalogue import LiveCatalogue

_PERIOD_S: Final = 0.1
_SHARE_OF_TIME: Final = 0.02
_AT_ONCE: Final = 250
"""Rooms that are put in order without a pause"""

_KEPT: Final = 2_000
"""Rooms whose order is remembered: more than anybody asks for, refused ones included"""


class PopularRooms:
    """What draws viewers now, then what drew them before, of one model's counts.

    The order is made anew ten times a second, and where much is live, in pieces between requests and less often, so
    that it costs at most a fiftieth of the time; of many rooms the first two thousand are remembered. A room that
    starts meanwhile takes its place at once; one that has ended is skipped.

    Args:
        catalogue: What is live.
        before: Long-run counts of streamers.
    """

    def __init__(self, catalogue: LiveCatalogue, before: Mapping[str, float]) -> None:
        self._catalogue = catalogue
        self._before = before
        self._order: list[tuple[float, str]] = []
        self._known: set[str] = set()
        self._made_at_s = float("-inf")
        self._took_s = 0.0
        self.crowded: frozenset[str] = frozenset()
        """Rooms of which one may truly say that they are popular now"""

    @property
    def is_due(self) -> bool:
        """Whether the order should be made anew."""
        return time.monotonic() - self._made_at_s > max(_PERIOD_S, self._took_s / _SHARE_OF_TIME)

    @property
    def is_quick(self) -> bool:
        """Whether making the order is short enough for a request to wait for it, or cannot be put off."""
        return len(self._catalogue.rooms) <= _AT_ONCE or not self._order

    def start(self, room_ids: Collection[str]) -> None:
        """Give rooms that started their place."""
        for room_id in room_ids:
            room = self._catalogue.rooms.get(room_id)
            if room is not None and room_id not in self._known:
                (_, score) = rank_by_popularity([room_id], now={}, before=self._counts([room_id]))[0]
                insort(self._order, (-score, room_id))
                self._known.add(room_id)

    def make(self, *, at_ms: int) -> None:
        """Make the order anew, at once."""
        began = time.monotonic()
        room_ids = list(self._catalogue.rooms)
        now = self._catalogue.enters(at_ms=at_ms)
        scores = rank_by_popularity(room_ids, now=now, before=self._counts(room_ids))
        self._take([(-score, room_id) for room_id, score in scores[:_KEPT]], set(room_ids), popular_now(now), began)

    async def make_in_pieces(self, *, at_ms: int, rest_s: float = 0.0) -> None:
        """Make the order anew while requests go on, with a rest after each piece."""
        room_ids = list(self._catalogue.rooms)
        spent = 0.0
        began = time.monotonic()
        enters: dict[str, float] = {}
        order: list[tuple[float, str]] = []
        for first in range(0, len(room_ids), _AT_ONCE):
            piece = room_ids[first : first + _AT_ONCE]
            now = self._catalogue.enters(at_ms=at_ms, room_ids=piece)
            enters |= now
            order += [(-score, each) for each, score in rank_by_popularity(piece, now=now, before=self._counts(piece))]
            order.sort()
            del order[_KEPT:]
            spent += time.monotonic() - began
            await asyncio.sleep(rest_s)
            began = time.monotonic()
        known = set(room_ids)
        started = [room_id for room_id in self._catalogue.rooms if room_id not in known]
        self._take(order, known, popular_now(enters), began - spent)
        self.start(started)

    def ranked(self) -> Iterator[tuple[str, float]]:
        """Yield live rooms with their scores, best first."""
        rooms = self._catalogue.rooms
        return ((room_id, 0.0 - score) for score, room_id in self._order if room_id in rooms)

    def _take(self, order: list[tuple[float, str]], known: set[str], crowded: frozenset[str], began: float) -> None:
        self._order, self._known, self.crowded = order, known, crowded
        self._made_at_s = time.monotonic()
        self._took_s = self._made_at_s - began

    def _counts(self, room_ids: Collection[str]) -> dict[str, float]:
        rooms, before = self._catalogue.rooms, self._before
        counts = {}
        for room_id in room_ids:
            room = rooms.get(room_id)
            if room is not None and room.streamer_id is not None:
                counts[room_id] = before.get(room.streamer_id, 0.0)
        return counts
