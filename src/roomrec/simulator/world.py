"""A live-commerce world: its log day by day, what is live at any instant, and what a viewer truly likes."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from roomrec.simulator import truth_tables
from roomrec.simulator.arrow import EventEncoder, contexts, parse_id, parse_room_id, user_id
from roomrec.simulator.behaviour import simulate_viewers
from roomrec.simulator.config import DAY_MS, WorldConfig
from roomrec.simulator.exposure import NUM_VIEWER_CONTEXTS
from roomrec.simulator.live import LiveRoom, live_rooms_at
from roomrec.simulator.mess import Deliveries, deliver
from roomrec.simulator.population import make_population
from roomrec.simulator.response import respond
from roomrec.simulator.rows import EventRows, by_viewer, join_rows, number_rows, take_rows
from roomrec.simulator.schedule import Rooms, rooms_of_day
from roomrec.simulator.stock import StockChanges, room_event_rows, settle_stock
from roomrec.simulator.truth import product_utility, room_utility

_ROWS_PER_TABLE = 250_000


class SimulatedDay(NamedTuple):
    """One day as it truly happened, before delivery."""

    rooms: Rooms
    rows: EventRows
    """In order of time; at one instant in the order things happen."""
    changes: StockChanges


class World:
    """A simulated platform. The same configuration gives the same bytes.

    What is asked about an instant after the log (up to any later day) is answered for the same world going on.

    Args:
        config: How big, how long, how messy.

    Example:
        >>> world = World(WorldConfig(num_days=1, num_viewers=100, num_streamers=10))
        >>> sum(len(table) for table in world.days()) > 500
        True
        >>> evening_ms = world.config.start_at_ms + 20 * 3_600_000
        >>> room = world.live_rooms(evening_ms)[0]
        >>> world.true_utility("u0000003", [room.room_id, room.products[0].product_id], evening_ms).shape
        (2,)
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.population = make_population(config)
        self._encoder = EventEncoder(self.population)
        self._cached_day = lru_cache(maxsize=4)(self._simulate)
        self._cached_rooms = lru_cache(maxsize=64)(lambda day: rooms_of_day(self.population, day))

    def days(self) -> Iterator[pa.Table]:
        """Yield the log as tables in ``EVENT_SCHEMA``, day by day, in order of arrival within a day."""
        followed = np.zeros(self.population.viewers.favourite.shape, dtype=bool)
        for day in range(self.config.num_days):
            simulated = self._simulate(day, followed)
            deliveries = deliver(self.config, simulated.rows, day=day)
            day_contexts = contexts(self.population, simulated.rooms)
            for start in range(0, len(deliveries.number), _ROWS_PER_TABLE):
                part = slice(start, start + _ROWS_PER_TABLE)
                piece = Deliveries(
                    rows=EventRows._make(column[part] for column in deliveries.rows),
                    received_ms=deliveries.received_ms[part],
                    number=deliveries.number[part],
                )
                yield self._encoder.encode(piece, simulated.rooms, day_contexts)

    def day(self, day: int) -> SimulatedDay:
        """Return a day as it truly happened, counted from 0, those after the log included.

        Follow events are missing: they depend on the days before.
        """
        return self._cached_day(day)

    def rooms(self, day: int) -> Rooms:
        """Return the rooms of a day, counted from 0."""
        return self._cached_rooms(day)

    def live_rooms(self, at_ms: int) -> list[LiveRoom]:
        """Return the rooms live at an instant, with what they list and the stock left, in order of id."""
        simulated = self.day(self._day_of(at_ms))
        return live_rooms_at(self.population, simulated.rooms, simulated.changes, at_ms)

    def room_events(self, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
        """Return what rooms do in ``[from_ms, to_ms)``, in order of time, in the log and after its end.

        Stock changes are those of all simulated viewers' orders.

        Returns:
            Events as they would be posted: only the fields that are not null, without ``received_at_ms``. Their ids are
            the ids of the log.
        """
        events = []
        for day in range(self._day_of(from_ms), self._day_of(max(from_ms, to_ms - 1)) + 1):
            simulated = self.day(day)
            number = number_rows(simulated.rows)
            rows = simulated.rows
            chosen = np.flatnonzero(~by_viewer(rows) & (rows.at_ms >= from_ms) & (rows.at_ms < to_ms))
            deliveries = Deliveries(take_rows(rows, chosen), rows.at_ms[chosen], number[chosen])
            events += self._encoder.encode_fields(
                deliveries, simulated.rooms, contexts(self.population, simulated.rooms)
            )
        return events

    def viewer_response(
        self,
        user_id: str,
        room_ids: Sequence[str],
        at_ms: int,
        rng: np.random.Generator,
        *,
        request_id: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return what a viewer does with a slate of rooms, by the true utilities.

        Args:
            user_id: A viewer of this world.
            room_ids: The slate, first position first. Rooms that are not live cannot be entered.
            at_ms: When it is shown.
            rng: Decides; the same state gives the same events.
            request_id: Written on every event.

        Returns:
            Events as in ``room_events``, in order of time: impressions of live rooms; if the viewer enters one, also
            enter, watch, leave, reactions, product clicks and orders of products in stock.

        Raises:
            ValueError: If an id is not of this world.
        """
        simulated = self.day(self._day_of(at_ms))
        rooms = simulated.rooms
        places = [self._room_number(rooms, text) for text in room_ids]
        rows = respond(
            self.population,
            rooms,
            simulated.changes,
            rng,
            user=self._number(user_id, "u"),
            slate=np.array(places, dtype=np.int64),
            at_ms=at_ms,
        )
        number = rng.integers(2**52) + np.arange(len(rows.at_ms))
        events = self._encoder.encode_fields(
            Deliveries(rows, rows.at_ms, number), rooms, contexts(self.population, rooms)
        )
        for event in events:
            event.pop("request_id", None)
        return [event | {"request_id": request_id} for event in events] if request_id else events

    def viewer_ids(self, at_ms: int) -> list[str]:
        """Return the viewers who have joined by the day of an instant, in order."""
        joined = self.population.viewers.joined_day <= self._day_of(at_ms)
        return [user_id(number) for number in np.flatnonzero(joined).tolist()]

    def true_utility(
        self, user_ids: str | Sequence[str], item_ids: Sequence[str], at_ms: int | npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Return how much viewers truly like rooms or products at instants: choices follow the softmax of this.

        Rooms and products are on scales of their own: compare rooms with rooms.

        Args:
            user_ids: One viewer, or one for each item.
            item_ids: Ids of rooms or products, n of them.
            at_ms: One instant, or one for each item.

        Returns:
            Utilities ``[n]``.

        Raises:
            ValueError: If an id is not of this world.
        """
        num = len(item_ids)
        ids = [user_ids] * num if isinstance(user_ids, str) else list(user_ids)
        if len(ids) != num:
            raise ValueError(f"user_ids has {len(ids)} ids, item_ids {num}: expected one user, or one for each item")
        user = np.array([self._number(text, "u") for text in ids], dtype=np.int64)
        instants = np.broadcast_to(np.asarray(at_ms, dtype=np.int64), (num,))
        utility = np.empty(num, dtype=np.float32)
        rooms_by_day: dict[int, list[tuple[int, int]]] = {}
        products = []
        for place, item in enumerate(item_ids):
            if item.startswith("p"):
                products.append((place, self._number(item, "p")))
            else:
                day, _ = parse_room_id(item)
                rooms_by_day.setdefault(day, []).append((place, self._room_number(self.rooms(day), item)))
        for day, found in rooms_by_day.items():
            where, number = np.array(found).T
            utility[where] = room_utility(
                self.population, self.rooms(day), user=user[where], at_ms=instants[where], room=number[:, None]
            )[:, 0]
        if products:
            where, number = np.array(products).T
            utility[where] = product_utility(
                self.population, user=user[where], at_ms=instants[where], product=number[:, None]
            )[:, 0]
        return utility

    def viewer_truth(self, day: int) -> pa.Table:
        """Return the taste and the favourites of every viewer on a day, see ``truth_tables.py``."""
        return truth_tables.viewer_truth(self.population, day)

    def room_truth(self, day: int) -> pa.Table:
        """Return the rooms of a day with their latent vectors."""
        return truth_tables.room_truth(self.rooms(day))

    def streamer_truth(self) -> pa.Table:
        """Return all streamers with their latent vectors."""
        return truth_tables.streamer_truth(self.population)

    def product_truth(self) -> pa.Table:
        """Return all products with their latent vectors."""
        return truth_tables.product_truth(self.population)

    def _simulate(self, day: int, followed: npt.NDArray[np.bool_] | None = None) -> SimulatedDay:
        rooms = self.rooms(day)
        rows, changes = settle_stock(
            self.population, rooms, simulate_viewers(self.population, rooms, followed=followed)
        )
        room_rows = room_event_rows(
            rooms, changes, prices=self.population.products.price_cents, first_context=NUM_VIEWER_CONTEXTS
        )
        rows = join_rows([room_rows, rows])
        return SimulatedDay(rooms, take_rows(rows, np.argsort(rows.at_ms, kind="stable")), changes)

    def _day_of(self, at_ms: int) -> int:
        if at_ms < self.config.start_at_ms:
            raise ValueError(f"at_ms is {at_ms}, the world begins at {self.config.start_at_ms}")
        return (at_ms - self.config.start_at_ms) // DAY_MS

    def _number(self, text: str, letter: str) -> int:
        known = {"u": len(self.population.viewers.hour), "p": len(self.population.products.streamer)}[letter]
        number = parse_id(text, letter)
        if number >= known:
            raise ValueError(f"{text!r} is not of this world: it has {known} of them")
        return number

    def _room_number(self, rooms: Rooms, text: str) -> int:
        """The number of a room in a day's rooms, -1 if it is of another day."""
        day, streamer = parse_room_id(text)
        if day != rooms.day:
            return -1
        if streamer >= len(rooms.of_streamer) or rooms.of_streamer[streamer] < 0:
            raise ValueError(f"there is no room {text!r} in this world")
        return int(rooms.of_streamer[streamer])
