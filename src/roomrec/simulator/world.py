"""A live-commerce world: its log day by day, what is live at any instant, and what a viewer truly likes."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from roomrec.simulator import truth_tables
from roomrec.simulator.arrow import EventEncoder, contexts
from roomrec.simulator.behaviour import simulate_viewers
from roomrec.simulator.config import WorldConfig
from roomrec.simulator.exposure import NUM_VIEWER_CONTEXTS
from roomrec.simulator.mess import deliver
from roomrec.simulator.population import make_population
from roomrec.simulator.rows import EventRows, join_rows, take_rows
from roomrec.simulator.schedule import Rooms, rooms_of_day
from roomrec.simulator.stock import StockChanges, room_event_rows, settle_stock

_ROWS_PER_TABLE = 250_000


class SimulatedDay(NamedTuple):
    """One day as it truly happened, before delivery."""

    rooms: Rooms
    rows: EventRows
    """In order of time; at one instant in the order things happen."""
    changes: StockChanges


class World:
    """A simulated platform. The same configuration gives the same bytes.

    Args:
        config: How big, how long, how messy.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.population = make_population(config)
        self._encoder = EventEncoder(self.population)
        self._cached_day = lru_cache(maxsize=4)(self._simulate)

    def days(self) -> Iterator[pa.Table]:
        """Yield the log as tables in ``EVENT_SCHEMA``, day by day, in order of arrival within a day."""
        viewers = self.population.viewers
        followed = np.zeros(viewers.favourite.shape, dtype=bool)
        for day in range(self.config.num_days):
            simulated = self._simulate(day, followed)
            deliveries = deliver(self.config, simulated.rows, day=day)
            day_contexts = contexts(self.population, simulated.rooms)
            for start in range(0, len(deliveries.number), _ROWS_PER_TABLE):
                part = slice(start, start + _ROWS_PER_TABLE)
                piece = deliveries._replace(
                    rows=EventRows._make(column[part] for column in deliveries.rows),
                    received_ms=deliveries.received_ms[part],
                    number=deliveries.number[part],
                )
                yield self._encoder.encode(piece, simulated.rooms, day_contexts)

    def viewer_truth(self, day: int) -> pa.Table:
        """Return the taste and the favourites of every viewer on a day, see ``truth_tables.py``."""
        return truth_tables.viewer_truth(self.population, day)

    def room_truth(self, day: int) -> pa.Table:
        """Return the rooms of a day with their latent vectors."""
        return truth_tables.room_truth(rooms_of_day(self.population, day))

    def streamer_truth(self) -> pa.Table:
        """Return all streamers with their latent vectors."""
        return truth_tables.streamer_truth(self.population)

    def product_truth(self) -> pa.Table:
        """Return all products with their latent vectors."""
        return truth_tables.product_truth(self.population)

    def _simulate(self, day: int, followed: npt.NDArray[np.bool_] | None = None) -> SimulatedDay:
        rooms = rooms_of_day(self.population, day)
        rows, changes = settle_stock(
            self.population, rooms, simulate_viewers(self.population, rooms, followed=followed)
        )
        room_rows = room_event_rows(
            rooms, changes, prices=self.population.products.price_cents, first_context=NUM_VIEWER_CONTEXTS
        )
        rows = join_rows([room_rows, rows])
        return SimulatedDay(rooms, take_rows(rows, np.argsort(rows.at_ms, kind="stable")), changes)
