"""Whether what was accepted is visible: to a reader of a viewer's state, and to viewers of a room."""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import orjson

from scripts.load_serving.agenda import Agenda, now
from scripts.load_serving.connections import Exchange, Pool
from scripts.load_serving.rooms import Change, Event
from scripts.load_serving.truth import Truth, read_slate

_FULL = 20
"""A history of fewer events has not pushed any out."""


class Checked(NamedTuple):
    """How many were looked at, and how many of them were not as they must be."""

    checked: int
    missed: int


class Checks:
    """Asks the endpoint about a share of what it has accepted.

    A read-back asks for the state of a viewer right after an event of theirs was accepted. A probe asks for the
    products of a room that has changed, right after the acceptance and once more after the bound: what has gone is
    looked for by ``Truth``, what has come must be there.

    Args:
        pool: Where to ask.
        agenda: When.
        truth: Compares the answers to probes.
        probe: Makes a whole request for all products of a room, by a viewer of its choice.
        draw: Returns numbers in [0, 1).
        read_back_share: Share of viewers' posts whose newest event is read back.
        probe_share: Share of changes of rooms that are probed.
        bound_s: When what was accepted must be visible everywhere.
    """

    def __init__(
        self,
        pool: Pool,
        agenda: Agenda,
        truth: Truth,
        *,
        probe: Callable[[str], bytes],
        draw: Callable[[], float],
        read_back_share: float,
        probe_share: float,
        bound_s: float,
    ) -> None:
        self._pool = pool
        self._agenda = agenda
        self._truth = truth
        self._probe = probe
        self._draw = draw
        self._read_back_share = read_back_share
        self._probe_share = probe_share
        self._bound_s = bound_s
        self._counts: Counter[str] = Counter()
        self.missed: list[dict[str, Any]] = []
        """the first that were missed"""

    def reads_back(self) -> bool:
        """Decide whether the next post is read back."""
        return self._draw() < self._read_back_share

    def read_back(self, request: bytes, event: Event) -> None:
        """Ask for a viewer's state; it must hold an event, unless newer ones have pushed it out of the history."""
        wanted = f'"{event["event_id"]}"'.encode()

        def answered(exchange: Exchange) -> None:
            is_there = wanted in exchange.body
            if exchange.status not in (200, 404) or (not is_there and is_pushed_out(event, exchange.body)):
                self._counts["read_back not answered"] += 1
                return
            self._count("read_back", is_there, {"read_back": event["event_id"], "status": exchange.status})

        self._pool.submit(Exchange(request, now(), answered))

    def room_changed(self, change: Change) -> None:
        """Probe a room whose change was accepted a moment ago."""
        if self._draw() >= self._probe_share or not (change.shows or change.hides):
            return
        self._look(change, "at_once", now())
        self._agenda.at(now() + self._bound_s * 1.001, lambda due: self._look(change, "after_bound", due))

    def read_backs(self) -> Checked:
        """Return how many read-backs there were."""
        return Checked(self._counts["read_back checked"], self._counts["read_back missed"])

    def probes(self, when: str) -> Checked:
        """Return how many probes looked for something that must be there, ``at_once`` or ``after_bound``."""
        return Checked(self._counts[f"{when} checked"], self._counts[f"{when} missed"])

    def not_answered(self) -> dict[str, int]:
        """Return how many could not be looked at: they were refused, or newer events had filled the history."""
        return {name.split()[0]: count for name, count in self._counts.items() if name.endswith("not answered")}

    def _look(self, change: Change, when: str, due: float) -> None:
        def answered(exchange: Exchange) -> None:
            if exchange.status != 200:
                self._counts[f"{when} not answered"] += 1
                return
            try:
                slate = read_slate(exchange.body)
            except msgspec.DecodeError:
                self._counts[f"{when} not answered"] += 1
                return
            self._truth.check(slate, exchange.sent)
            host = change.host
            wanted = host.listed - host.sold_out
            if change.product_id is not None:
                wanted &= {change.product_id}
            if not change.shows or host.version != change.version or not wanted:
                return  # if it has changed since, what must be there is not known
            shown = {item.product_id for item in slate.items}
            told = {"probe": when, "room_id": change.room_id, "change": change.kind, "degraded": slate.degraded}
            self._count(when, wanted <= shown, told)

        self._pool.submit(Exchange(self._probe(change.room_id), due, answered))

    def _count(self, name: str, is_there: bool, told: dict[str, Any]) -> None:
        self._counts[f"{name} checked"] += 1
        if not is_there:
            self._counts[f"{name} missed"] += 1
            if len(self.missed) < 5 and name != "at_once":
                self.missed.append(told)


def is_pushed_out(event: Event, body: bytes) -> bool:
    """Return whether a viewer's history is full of events that are newer than one.

    Args:
        event: The one.
        body: An answer about the viewer.
    """
    try:
        occurred = [each["occurred_at_ms"] for each in orjson.loads(body)["history"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False
    return len(occurred) >= _FULL and min(occurred) >= event["occurred_at_ms"]
