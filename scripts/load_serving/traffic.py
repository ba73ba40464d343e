"""An evening on a live-commerce platform, played against an endpoint: requests, reports, changes of rooms, checks."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np

from roomrec.sequences.history import HISTORY_EVENT_TYPES
from scripts.load_serving.agenda import Agenda, Phase, now, poisson_instants
from scripts.load_serving.checks import Checks
from scripts.load_serving.connections import Exchange, Pool
from scripts.load_serving.recording import Recorder
from scripts.load_serving.reporting import Accepted, Reporter
from scripts.load_serving.rooms import Change, Event, Rooms
from scripts.load_serving.truth import Truth, read_slate
from scripts.load_serving.viewers import MEAN_EVENTS_PER_BODY, Ask, Audience

KINDS: Final = ("recommendations", "events", "room_changes")
"""Requests that make up the load; checks are beside it."""

_IN_HISTORY = frozenset(HISTORY_EVENT_TYPES)
_EVENTS_PER_SETUP_BODY = 500
_SETUP_BODIES_AT_ONCE = 4


class Heads(NamedTuple):
    """Beginnings of requests, up to the number of their ``content-length``."""

    recommendations: bytes
    events: bytes
    room_events: bytes
    """with the key of who changes rooms"""
    users: Callable[[str], bytes]
    """a whole request for what is known of a viewer, by path"""

    def recommend(self, ask: Ask) -> bytes:
        """Return a whole request for a slate."""
        return self.recommendations + b"%d\r\n\r\n" % len(ask.body) + ask.body


class Stretch(NamedTuple):
    """A part of the run that is reported by itself."""

    name: str
    seconds: float
    rate: float = 0.0
    """requests for recommendations a second, open loop"""
    concurrency: int = 0
    """or requests under way, closed loop"""
    is_warmup: bool = False
    is_aftermath: bool = False
    """whether it follows at once on what is still under way; else that is waited for"""


class Measured(NamedTuple):
    """What was measured in a stretch."""

    stretch: Stretch
    seconds: float
    recorders: dict[str, Recorder]


class Traffic:
    """Plays stretches of load.

    Args:
        pool: Connections.
        agenda: Instants.
        heads: Beginnings of requests.
        rooms: The supply side.
        audience: The demand side.
        truth: Compares every answer.
        reporter: Posts events.
        checks: Asks whether accepted events are visible.
        events_per_recommendation: Viewers' events for each request, on average.
        room_changes_per_second: Of all rooms together.
        rng: Decides instants.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        agenda: Agenda,
        heads: Heads,
        rooms: Rooms,
        audience: Audience,
        truth: Truth,
        reporter: Reporter,
        checks: Checks,
        events_per_recommendation: float,
        room_changes_per_second: float,
        rng: np.random.Generator,
    ) -> None:
        self._pool = pool
        self._agenda = agenda
        self._heads = heads
        self._rooms = rooms
        self._audience = audience
        self._truth = truth
        self._reporter = reporter
        self._checks = checks
        self._events_per_recommendation = events_per_recommendation
        self._room_changes_per_second = room_changes_per_second
        self._rng = rng
        self.recorders = {kind: Recorder() for kind in KINDS}
        """of the stretch under way"""
        self.degraded: Counter[str] = Counter()
        self.unreadable = 0
        """answers 200 that are no slate"""
        self.changes_skipped = 0
        """changes of rooms that found every room in the middle of one"""
        self.stop = asyncio.Event()
        """set to end early"""

    async def open_rooms(self) -> None:
        """Start a room of every host, before anything is measured."""
        changes = [self._rooms.start(host) for host in self._rooms.hosts]
        await self._post_all(changes)

    async def close_rooms(self) -> None:
        """End all rooms that are live."""
        await self._post_all(
            [self._rooms.end(host) for host in self._rooms.hosts if host.room_id is not None and not host.is_changing]
        )

    async def play(self, stretch: Stretch) -> Measured:
        """Play one stretch, or as much of it as there is before ``stop``."""
        if not stretch.is_aftermath:
            await self._pool.drain(self._pool.timeout_s)
        recorders = self.recorders = {kind: Recorder() for kind in KINDS}
        begin = now() + 0.005
        end = begin + stretch.seconds
        follow = self._agenda.follow
        follow(self._instants(self._room_changes_per_second, stretch, begin), self._change_room)
        if stretch.concurrency:
            self._close_loops(stretch, recorders, end)
        else:
            posts = stretch.rate * self._events_per_recommendation / MEAN_EVENTS_PER_BODY
            follow(self._instants(stretch.rate, stretch, begin), self._recommend)
            follow(self._instants(posts, stretch, begin), self._report)
        await self._wait(end)
        until = min(now(), end)
        for recorder in recorders.values():
            recorder.until = until
        return Measured(stretch, max(until - begin, 1e-3), recorders)

    async def finish(self, seconds: float) -> None:
        """Wait until everything is answered and acknowledged, at most so long."""
        until = now() + seconds
        while (self._pool.under_way or self._reporter.pending) and now() < until:
            await asyncio.sleep(0.01)

    async def _wait(self, end: float) -> None:
        come = asyncio.ensure_future(self._agenda.until(end))
        stopped = asyncio.ensure_future(self.stop.wait())
        await asyncio.wait((come, stopped), return_when=asyncio.FIRST_COMPLETED)
        for each in (come, stopped):
            each.cancel()

    def _instants(self, rate: float, stretch: Stretch, begin: float) -> Iterator[float]:
        for instant in poisson_instants([Phase(rate, stretch.seconds)], self._rng):
            if self.stop.is_set():
                return
            yield begin + instant

    def _recommend(self, due: float) -> None:
        ask = self._audience.ask()
        self._pool.submit(self._exchange(ask, due, self._answered))

    def _exchange(self, ask: Ask, due: float, on_answer: Callable[[Exchange], None]) -> Exchange:
        return Exchange(self._heads.recommend(ask), due, on_answer, (ask, self.recorders["recommendations"]))

    def _answered(self, exchange: Exchange) -> None:
        ask, recorder = exchange.about
        recorder.record(exchange)
        if exchange.status != 200:
            return
        try:
            slate = read_slate(exchange.body)
        except msgspec.DecodeError:
            self.unreadable += 1
            return
        self._truth.check(slate, exchange.sent)
        self.degraded[slate.degraded or "none"] += 1
        self._audience.answered(ask, slate)

    def _close_loops(self, stretch: Stretch, recorders: dict[str, Recorder], end: float) -> None:
        credit = 0.0

        def send() -> None:
            if (due := now()) < end and not self.stop.is_set():
                self._pool.submit(self._exchange(self._audience.ask(), due, answered))

        def answered(exchange: Exchange) -> None:
            nonlocal credit
            if exchange.answered > end:
                exchange.about = exchange.about[0], Recorder()  # answered too late to count
            self._answered(exchange)
            credit += self._events_per_recommendation
            while credit >= MEAN_EVENTS_PER_BODY:
                credit -= MEAN_EVENTS_PER_BODY
                self._report(now())
            if exchange.error is None and exchange.status == 200:
                send()
            else:
                self._agenda.at(now() + 0.01, lambda _: send())  # who is refused at once would ask for ever

        for _ in range(stretch.concurrency):
            send()

    def _report(self, due: float) -> None:
        if not (events := self._audience.report()):
            return
        on_done = self._read_back(events) if self._checks.reads_back() else None
        self._reporter.post(self._heads.events, events, due, self.recorders["events"], on_done)

    def _read_back(self, events: list[Event]) -> Accepted | None:
        """Return what reads the newest of a viewer's events that enter a history back, once it is stored."""
        chosen = next((event for event in reversed(events) if event["event_type"] in _IN_HISTORY), None)
        if chosen is None:
            return None
        request = self._heads.users(f"/v1/users/{quote(chosen['user_id'], safe='')}")

        def on_done(is_stored: bool, _: Exchange) -> None:
            if is_stored:
                self._checks.read_back(request, chosen)

        return on_done

    def _change_room(self, due: float) -> None:
        if (change := self._rooms.change()) is None:
            self.changes_skipped += 1
            return
        self._post_change(change, due, self.recorders["room_changes"])

    def _post_change(self, change: Change, due: float, recorder: Recorder) -> None:
        self._truth.sending(change)

        def on_done(is_stored: bool, exchange: Exchange) -> None:
            self._rooms.done(change, is_accepted=is_stored)
            if is_stored:
                self._truth.accepted(change, exchange.answered)
                self._checks.room_changed(change)

        self._reporter.post(self._heads.room_events, change.events, due, recorder, on_done)

    async def _post_all(self, changes: list[Change]) -> None:
        """Post changes of different hosts in long bodies, some at once."""
        free = asyncio.Semaphore(_SETUP_BODIES_AT_ONCE)
        body: list[Change] = []
        for change in changes:
            body.append(change)
            if sum(len(each.events) for each in body) >= _EVENTS_PER_SETUP_BODY:
                await self._post_body(body, free)
                body = []
        if body:
            await self._post_body(body, free)
        for _ in range(_SETUP_BODIES_AT_ONCE):
            await free.acquire()

    async def _post_body(self, changes: list[Change], free: asyncio.Semaphore) -> None:
        await free.acquire()

        def on_done(is_stored: bool, exchange: Exchange) -> None:
            free.release()
            for change in changes:
                self._rooms.done(change, is_accepted=is_stored)
                if is_stored:
                    self._truth.accepted(change, exchange.answered)

        events = [event for change in changes for event in change.events]
        self._reporter.post(self._heads.room_events, events, now(), Recorder(), on_done)
