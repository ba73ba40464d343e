"""The demand side of an evening: Zipf viewers who ask for a slate, enter a room, watch, look at products and buy."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import orjson

from scripts.load_serving.rooms import Event, EventMaker
from scripts.load_serving.truth import ShownItem, Slate

EVENTS_PER_BODY: Final = (1, 20)
"""Fewest and most events a frontend sends at once; each number is as likely."""

MEAN_EVENTS_PER_BODY: Final = sum(EVENTS_PER_BODY) / 2
"""The mean of that."""

_GOES_ON = 0.5
"""Share of requests that come from a viewer who has entered a room."""
_ENTERED = ("watch", "like", "comment", "watch", "follow", "watch", "share", "gift", "watch", "leave")
_BOUGHT = ("product_click", "product_click", "add_to_cart", "order")
_REMEMBERED = 10_000


class Visit(NamedTuple):
    """A viewer in a room, and the slate that led there."""

    viewer: str
    room_id: str
    streamer_id: str


class Seen(NamedTuple):
    """A slate that a viewer looks at."""

    viewer: str
    slate: Slate


class Ask(NamedTuple):
    """A request for a slate."""

    viewer: str
    room_id: str | None
    body: bytes


class Audience:
    """All viewers.

    Args:
        maker: Makes the events.
        viewer_ids: The most active first.
        exponent: Of Zipf's law: the viewer of rank r asks in proportion to ``r ** -exponent``.
        k: Items wanted.
        rng: Decides who does what.
    """

    def __init__(
        self, maker: EventMaker, *, viewer_ids: Sequence[str], exponent: float, k: int, rng: np.random.Generator
    ) -> None:
        self._maker = maker
        self._viewer_ids = viewer_ids
        self._k = k
        self._rng = rng
        shares = np.arange(1, len(viewer_ids) + 1, dtype=np.float64) ** -exponent
        self._viewers = self._drawn(np.cumsum(shares / shares.sum()))
        self._numbers = self._uniform()
        self._visits: deque[Visit] = deque(maxlen=_REMEMBERED)
        self._seen: deque[Seen] = deque(maxlen=_REMEMBERED)

    def viewer(self) -> str:
        """Return a viewer by Zipf's law."""
        return next(self._viewers)

    def ask(self) -> Ask:
        """Return the next request: a viewer comes to the feed, or one in a room looks at its products."""
        if self._visits and next(self._numbers) < _GOES_ON:
            visit = self._visits.popleft()
            return self.ask_products(visit.viewer, visit.room_id, self._k)
        viewer = self.viewer()
        return Ask(viewer, None, orjson.dumps({"user_id": viewer, "surface": "room_feed", "k": self._k}))

    def ask_products(self, viewer: str, room_id: str, k: int) -> Ask:
        """Return a request for products of a room."""
        body = {"user_id": viewer, "surface": "room_products", "room_id": room_id, "k": k}
        return Ask(viewer, room_id, orjson.dumps(body))

    def answered(self, ask: Ask, slate: Slate) -> None:
        """Let the viewer look at a slate: something of it will be reported, and a room of a feed be entered."""
        if not slate.items:
            return
        self._seen.append(Seen(ask.viewer, slate))
        if ask.room_id is None:
            chosen = self._choose(slate.items)
            self._visits.append(Visit(ask.viewer, chosen.room_id, chosen.streamer_id))

    def report(self) -> list[Event]:
        """Return what a frontend reports in one body: impressions of a slate, then what its viewer did.

        Returns:
            Events; none while nobody has seen a slate.
        """
        if not self._seen:
            return []
        seen = self._seen.popleft() if len(self._seen) > 1 else self._seen[0]
        fewest, most = EVENTS_PER_BODY
        number = fewest + int(next(self._numbers) * (most - fewest + 1))
        make, viewer, slate = self._maker.make, seen.viewer, seen.slate
        events: list[Event] = []
        for position, item in enumerate(slate.items[: (number + 1) // 2]):
            columns = {"product_id": item.product_id} if item.product_id else {}
            events.append(
                make(
                    "impression",
                    user_id=viewer,
                    room_id=item.room_id,
                    streamer_id=item.streamer_id,
                    request_id=slate.request_id,
                    position=position,
                    propensity=item.propensity,
                    **columns,
                )
            )
        chosen = self._choose(slate.items)
        where = {"user_id": viewer, "room_id": chosen.room_id, "streamer_id": chosen.streamer_id}
        does = ("enter", *_ENTERED) if chosen.product_id is None else _BOUGHT
        while len(events) < number:
            for event_type in does[: number - len(events)]:
                event = make(event_type, **where)
                if event_type == "watch":
                    event["watch_time_ms"] = 500 + int(next(self._numbers) * 60_000)
                if chosen.product_id is not None:
                    event |= {"product_id": chosen.product_id, "request_id": slate.request_id}
                if event_type == "order":
                    event |= {"amount_cents": 1_990, "quantity": 1}
                events.append(event)
        return events

    def _choose(self, items: Sequence[ShownItem]) -> ShownItem:
        """Choose an item, those on top more often: the square of a uniform number favours the beginning."""
        return items[int(next(self._numbers) ** 2 * len(items))]

    def _drawn(self, cumulated: np.ndarray) -> Iterator[str]:
        ids, last = self._viewer_ids, len(self._viewer_ids) - 1
        while True:
            for place in np.searchsorted(cumulated, self._rng.random(4096), side="right").tolist():
                yield ids[min(place, last)]

    def _uniform(self) -> Iterator[float]:
        while True:
            yield from self._rng.random(4096).tolist()
