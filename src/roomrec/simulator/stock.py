"""Who gets the last piece: orders are served in order of time until a product is sold out."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.simulator.population import Population
from roomrec.simulator.rows import NONE, EventRows, event_rows, join_rows, of_type, take_rows
from roomrec.simulator.schedule import MAX_LISTED, NO_PRODUCT, Rooms, pin_times

_ROUNDS: Final = 3
"""A product sells out at most this often in a room: as listed, and after each restock."""

_NEVER = np.int64(2**62)
_MINUTE_MS = 60_000


class StockChanges(NamedTuple):
    """Every change of stock after listing, m of them, by time. An order's change comes 1 ms after the order."""

    at_ms: npt.NDArray[np.int64]
    """[m]"""
    room: npt.NDArray[np.int64]
    """[m]"""
    place: npt.NDArray[np.int64]
    """[m] place in the room's list"""
    stock: npt.NDArray[np.int64]
    """[m] pieces from now on"""


def settle_stock(population: Population, rooms: Rooms, rows: EventRows) -> tuple[EventRows, StockChanges]:
    """Serve orders while stock lasts; drop what viewers would have done with products that were sold out.

    The order that meets too few pieces gets what is left. What sells out leaves the carts: after a restock only those
    order who click after it.

    Args:
        population: The world's population.
        rooms: The rooms of the day.
        rows: The viewers' events of the day, all orders included.

    Returns:
        The events that remain, with quantities and amounts corrected, and the changes of stock.
    """
    rng = np.random.default_rng([population.config.seed, 103, rooms.day])
    place = np.argmax(rooms.product[rows.room] == rows.product[:, None], axis=1)
    slot = rows.room.astype(np.int64) * MAX_LISTED + place
    wants = np.flatnonzero(of_type(rows, "order"))
    wants = wants[np.lexsort((rows.at_ms[wants], slot[wants]))]
    crowded = np.zeros(len(wants), dtype=bool)
    crowded[1:] = (np.diff(slot[wants]) == 0) & (np.diff(rows.at_ms[wants]) < 3)
    wants = wants[~crowded]
    clicked_ms = rows.at_ms - rows.since_click_ms
    open_ms = rooms.listed_ms.ravel().copy()
    stock = rooms.stock.ravel().copy()
    closes_ms = np.minimum(rooms.unlisted_ms, rooms.end_ms[:, None]).ravel()
    sold_out = np.full((_ROUNDS, len(stock)), _NEVER)
    back = np.full((_ROUNDS, len(stock)), _NEVER)
    quantity = rows.quantity.copy()
    served, changes = [], []
    for turn in range(_ROUNDS):
        wants = wants[clicked_ms[wants] >= open_ms[slot[wants]]]
        before = _earlier_in_group(quantity[wants].astype(np.int64), slot[wants])
        left = stock[slot[wants]] - before
        gets = left > 0
        some = wants[gets]
        quantity[some] = np.minimum(quantity[some], left[gets])
        remaining = left[gets] - quantity[some]
        served.append(some)
        changes.append((rows.at_ms[some] + 1, slot[some], remaining))
        last = some[remaining == 0]
        sold_out[turn, slot[last]] = rows.at_ms[last] + 1
        returns = slot[last][rng.random(len(last)) < population.config.restock_rate]
        back_ms = sold_out[turn, returns] + rng.integers(5 * _MINUTE_MS, 25 * _MINUTE_MS, size=len(returns))
        in_time = back_ms < closes_ms[returns] - 5 * _MINUTE_MS
        returns, back_ms = returns[in_time], back_ms[in_time]
        if turn == _ROUNDS - 1 or len(returns) == 0:
            break
        back[turn, returns] = back_ms
        open_ms[:] = _NEVER
        open_ms[returns] = back_ms
        stock[returns] = np.maximum(rooms.stock.ravel()[returns] // 2, 1)
        changes.append((back_ms, returns, stock[returns]))
        wants = wants[~gets]
    orders = np.concatenate(served)
    keep = ~of_type(rows, "order")
    keep &= ~(of_type(rows, "product_click", "add_to_cart") & _during(clicked_ms, rows.at_ms, slot, sold_out, back))
    keep[orders] = True
    unit_price = population.products.price_cents[np.maximum(rows.product, 0)]
    amount = np.where(rows.quantity == NONE, rows.amount_cents, unit_price * quantity).astype(np.int32)
    at_ms, slots, pieces = (np.concatenate(column) for column in zip(*changes, strict=True))
    order = np.lexsort((slots, at_ms))
    settled = StockChanges(at_ms[order], slots[order] // MAX_LISTED, slots[order] % MAX_LISTED, pieces[order])
    return take_rows(rows._replace(quantity=quantity, amount_cents=amount), keep), settled


def room_event_rows(
    rooms: Rooms, changes: StockChanges, *, prices: npt.NDArray[np.int64], first_context: int
) -> EventRows:
    """Return what rooms do in a day.

    Args:
        rooms: The rooms of the day.
        changes: From ``settle_stock``.
        prices: Price of every product ``[P]`` in cents.
        first_context: Number of the context of room 0; the listings' contexts follow the rooms'.

    Returns:
        Starts, ends, listings, pins and stock changes. A sold-out product is not pinned.
    """
    num_rooms = len(rooms.streamer)
    each = np.arange(num_rooms)
    room, place = np.nonzero(rooms.product != NO_PRODUCT)
    product = rooms.product[room, place]
    off = rooms.unlisted_ms[room, place] < rooms.end_ms[room]
    pin_room, period = np.nonzero(rooms.pinned >= 0)
    pin_place, pin_ms = rooms.pinned[pin_room, period], pin_times(rooms)[pin_room, period]
    sellable = stock_at(rooms, changes, pin_room, pin_place, pin_ms) > 0
    pin_room, pin_place, pin_ms = pin_room[sellable], pin_place[sellable], pin_ms[sellable]
    changed = rooms.product[changes.room, changes.place]
    return join_rows(
        [
            event_rows(
                "room_start", at_ms=rooms.start_ms, room=each, streamer=rooms.streamer, context=first_context + each
            ),
            event_rows(
                "product_listed",
                at_ms=rooms.listed_ms[room, place],
                room=room,
                streamer=rooms.streamer[room],
                product=product,
                amount_cents=prices[product],
                stock=rooms.stock[room, place],
                context=first_context + num_rooms + room * MAX_LISTED + place,
            ),
            event_rows(
                "product_pinned",
                at_ms=pin_ms,
                room=pin_room,
                streamer=rooms.streamer[pin_room],
                product=rooms.product[pin_room, pin_place],
            ),
            event_rows(
                "stock_changed",
                at_ms=changes.at_ms,
                room=changes.room,
                streamer=rooms.streamer[changes.room],
                product=changed,
                stock=changes.stock,
            ),
            event_rows(
                "product_unlisted",
                at_ms=rooms.unlisted_ms[room, place][off],
                room=room[off],
                streamer=rooms.streamer[room[off]],
                product=product[off],
            ),
            event_rows("room_end", at_ms=rooms.end_ms, room=each, streamer=rooms.streamer),
        ]
    )


def stock_at(
    rooms: Rooms,
    changes: StockChanges,
    room: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the stock of each listed product ``[n]`` at each instant, changes of that instant included."""
    slot = changes.room * MAX_LISTED + changes.place
    order = np.lexsort((changes.at_ms, slot))
    day_start = rooms.start_ms.min()
    key = slot[order] * 2**40 + (changes.at_ms[order] - day_start)
    wanted = room * MAX_LISTED + place
    latest = np.searchsorted(key, wanted * 2**40 + (at_ms - day_start), side="right") - 1
    known = latest >= 0
    if len(key):
        known &= slot[order][latest] == wanted
        return np.where(known, changes.stock[order][latest], rooms.stock[room, place])
    return rooms.stock[room, place]


def _earlier_in_group(values: npt.NDArray[np.int64], group: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sum of the values before each one in its group; groups stand together."""
    if len(values) == 0:
        return values
    total = np.cumsum(values) - values
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(group)]]))
    return total - np.repeat(total[starts], sizes)


def _during(
    from_ms: npt.NDArray[np.int64],
    until_ms: npt.NDArray[np.int64],
    slot: npt.NDArray[np.int64],
    sold_out: npt.NDArray[np.int64],
    back: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Whether a sold-out period of its slot touches each span, both ends included."""
    inside = np.zeros(len(from_ms), dtype=bool)
    for gone, returned in zip(sold_out, back, strict=True):
        inside |= (until_ms >= gone[slot]) & (from_ms < returned[slot])
    return inside
