"""The supply side of an evening: hosts whose rooms start and end, whose products are listed, pinned and sold out."""

import time
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

Event = dict[str, Any]

_KINDS = ("room_end", "product_unlisted", "product_listed", "sold_out", "restocked", "product_pinned")
_UP_TO = np.cumsum((0.12, 0.15, 0.25, 0.15, 0.25))  # and the rest; what has gone comes back more often, if there is any
_STARTS_FIRST = 0.5
"""Share of changes that start a room again while a host has none, so that about as many rooms stay live."""
_PIECES = 1_000


class EventMaker:
    """Gives every event an id of this run and an instant, both ascending.

    Of two events of one instant the greater id is the newer; so what is sent later is the newer in every case.

    Args:
        run: Begins every id, so that runs do not meet.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self._number = count()
        self._newest_ms = 0

    def make(self, event_type: str, **columns: Any) -> Event:
        """Return an event that occurs now."""
        self._newest_ms = max(self._newest_ms, time.time_ns() // 1_000_000)
        return {
            "event_id": f"{self.run}-{next(self._number):09d}",
            "event_type": event_type,
            "occurred_at_ms": self._newest_ms,
            **columns,
        }


class Host:
    """A host with products, and a room while it lasts."""

    __slots__ = ("is_changing", "listed", "product_ids", "room_id", "sold_out", "streamer_id", "version")

    def __init__(self, streamer_id: str, product_ids: Sequence[str]) -> None:
        self.streamer_id = streamer_id
        self.product_ids = list(product_ids)
        self.room_id: str | None = None
        self.listed: set[str] = set()
        self.sold_out: set[str] = set()
        self.is_changing = False
        """whether a change is under way; there is one at a time, so that what is true is known"""
        self.version = 0
        """how many changes were begun"""


class Change(NamedTuple):
    """One change of a room; ``kind`` is its event type, or what a ``stock_changed`` means."""

    kind: str
    host: Host
    room_id: str
    product_id: str | None
    events: list[Event]
    version: int = 0
    """the host's, once begun"""

    @property
    def shows(self) -> bool:
        """Whether something can be seen afterwards that could not before."""
        return self.kind in ("room_start", "product_listed", "restocked")

    @property
    def hides(self) -> bool:
        """Whether something must not be seen any more."""
        return self.kind in ("room_end", "product_unlisted", "sold_out")


class Rooms:
    """All hosts; each product belongs to one of them.

    Args:
        maker: Makes the events.
        streamer_ids: One host each.
        product_ids: Dealt out to the hosts.
        products_per_room: How many each host sells.
        rng: Decides who changes what.
    """

    def __init__(
        self,
        maker: EventMaker,
        *,
        streamer_ids: Sequence[str],
        product_ids: Sequence[str],
        products_per_room: int,
        rng: np.random.Generator,
    ) -> None:
        self._maker = maker
        self._rng = rng
        self._number = count()
        self.hosts = [
            Host(streamer_id, product_ids[place * products_per_room : (place + 1) * products_per_room])
            for place, streamer_id in enumerate(streamer_ids)
        ]
        self._idle: deque[Host] = deque()

    def start(self, host: Host) -> Change:
        """Start a room of a host and list all products; what was sold out stays so."""
        room_id = f"{self._maker.run}-r{next(self._number):06d}"
        place = hash_of(host.streamer_id)
        events = [
            self._maker.make(
                "room_start",
                room_id=room_id,
                streamer_id=host.streamer_id,
                context={"category": f"category {place % 20}", "title": f"{host.streamer_id} tonight"},
            )
        ]
        for product_id in host.product_ids:
            number = hash_of(product_id)
            events.append(
                self._maker.make(
                    "product_listed",
                    room_id=room_id,
                    product_id=product_id,
                    stock=0 if product_id in host.sold_out else _PIECES,
                    amount_cents=100 + number % 19_900,
                    context={"category": f"category {place % 20}", "title": f"Product {product_id}"},
                )
            )
        return self._begin(Change("room_start", host, room_id, None, events))

    def end(self, host: Host) -> Change:
        """End a host's room."""
        assert host.room_id is not None, host.streamer_id
        events = [self._maker.make("room_end", room_id=host.room_id, streamer_id=host.streamer_id)]
        return self._begin(Change("room_end", host, host.room_id, None, events))

    def change(self) -> Change | None:
        """Begin one change of a host that has none under way; None if all have."""
        if self._idle and self._rng.random() < _STARTS_FIRST:
            return self.start(self._idle.popleft())
        for _ in range(20):
            host = self.hosts[int(self._rng.integers(len(self.hosts)))]
            if host.room_id is not None and not host.is_changing:
                return self._change_of(host)
        return self.start(self._idle.popleft()) if self._idle else None

    def done(self, change: Change, *, is_accepted: bool) -> None:
        """Take note that a change is known to the endpoint, or was refused by it."""
        host = change.host
        host.is_changing = False
        if is_accepted:
            match change.kind:
                case "room_start":
                    host.room_id, host.listed = change.room_id, set(host.product_ids)
                case "room_end":
                    host.room_id, host.listed = None, set()
                case "product_listed":
                    host.listed.add(change.product_id or "")
                case "product_unlisted":
                    host.listed.discard(change.product_id or "")
                case "sold_out":
                    host.sold_out.add(change.product_id or "")
                case "restocked":
                    host.sold_out.discard(change.product_id or "")
        if host.room_id is None:
            self._idle.append(host)

    def _change_of(self, host: Host) -> Change:
        room_id = host.room_id or ""
        kind = _KINDS[int(np.searchsorted(_UP_TO, self._rng.random(), side="right"))]
        columns: Event = {"room_id": room_id, "streamer_id": host.streamer_id}
        if kind == "room_end" or not host.product_ids:
            return self.end(host)
        if kind in ("product_unlisted", "product_listed"):
            gone = [each for each in host.product_ids if each not in host.listed]
            kind = "product_listed" if gone and kind == "product_listed" else "product_unlisted"
            among = gone if kind == "product_listed" else [each for each in host.product_ids if each in host.listed]
        elif kind in ("sold_out", "restocked"):
            kind = "restocked" if host.sold_out and kind == "restocked" else "sold_out"
            among = [each for each in host.product_ids if (each in host.sold_out) == (kind == "restocked")]
            columns["stock"] = _PIECES if kind == "restocked" else 0
        else:
            among = host.product_ids
        if not among:
            return self.end(host)  # nothing is left to take away
        product_id = among[int(self._rng.integers(len(among)))]
        event_type = "stock_changed" if kind in ("sold_out", "restocked") else kind
        event = self._maker.make(event_type, product_id=product_id, **columns)
        return self._begin(Change(kind, host, room_id, product_id, [event]))

    def _begin(self, change: Change) -> Change:
        change.host.is_changing = True
        change.host.version += 1
        return change._replace(version=change.host.version)


def hash_of(text: str) -> int:
    """Return a number that is the same in every run."""
    return int.from_bytes(text.encode()[-6:], "big")
