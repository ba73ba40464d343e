"""One viewer before one slate: what a demo or a test of serving needs, by the same rules as the log."""

import numpy as np
import numpy.typing as npt

from roomrec.simulator.exposure import STAY_AWAY_UTILITY, Visits, viewer_context
from roomrec.simulator.population import Population
from roomrec.simulator.rows import NONE, EventRows, event_rows, join_rows, of_type, take_rows
from roomrec.simulator.schedule import Rooms
from roomrec.simulator.stock import StockChanges, stock_at
from roomrec.simulator.truth import choose, room_utility
from roomrec.simulator.visits import visit_rooms

_LONGEST_ENTRY_MS = 10_000


def respond(
    population: Population,
    rooms: Rooms,
    changes: StockChanges,
    rng: np.random.Generator,
    *,
    user: int,
    slate: npt.NDArray[np.int64],
    at_ms: int,
) -> EventRows:
    """Simulate a viewer who is shown a slate.

    Args:
        population: The world's population.
        rooms: The rooms of the day.
        changes: The changes of stock of the day.
        rng: Decides.
        user: The viewer.
        slate: Rooms by number, first position first; -1 for a room of another day.
        at_ms: When it is shown.

    Returns:
        Events in order of time.
    """
    live = (slate >= 0) & (rooms.start_ms[slate] <= at_ms) & (rooms.end_ms[slate] > at_ms + _LONGEST_ENTRY_MS)
    position = np.flatnonzero(live)
    room = slate[position]
    viewer = np.full(len(room), user)
    shown = event_rows(
        "impression",
        at_ms=np.full(len(room), at_ms),
        user=viewer,
        room=room,
        streamer=rooms.streamer[room],
        position=position,
        context=viewer_context(population, viewer, 0),
    )
    one, now = np.array([user]), np.array([at_ms])
    utility = room_utility(population, rooms, user=one, at_ms=now, room=room[None, :])
    offers = np.append(utility, [[STAY_AWAY_UTILITY]], axis=1)
    choice = int(choose(offers, np.ones(offers.shape, dtype=bool), rng)[0])
    if choice == len(room):
        return shown
    visit = Visits(
        user=one,
        room=room[[choice]],
        enter_ms=now + rng.integers(600, _LONGEST_ENTRY_MS - 1_000, size=1),
        utility=utility[:, choice],
        request=np.array([NONE]),
        position=position[[choice]],
        surface=np.array([0]),
    )
    events, _ = visit_rooms(population, rooms, visit, rng)
    rows = join_rows([shown, _in_stock(rooms, changes, events)])
    return take_rows(rows, np.argsort(rows.at_ms, kind="stable"))


def _in_stock(rooms: Rooms, changes: StockChanges, rows: EventRows) -> EventRows:
    """Drop what needs a product that is sold out at that instant, and orders of more than there is."""
    shopping = of_type(rows, "product_click", "add_to_cart", "order")
    room = rows.room.astype(np.int64)
    place = np.argmax(rooms.product[room] == rows.product[:, None], axis=1)
    stock = stock_at(rooms, changes, room, place, rows.at_ms)
    return take_rows(rows, ~shopping | (stock >= np.maximum(rows.quantity, 1)))
