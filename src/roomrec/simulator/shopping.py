"""What a viewer who stays in a room does with its products: click, add to cart, order, at once or much later."""

import numpy as np
import numpy.typing as npt

from roomrec.simulator.population import Population
from roomrec.simulator.rows import EventRows, event_rows
from roomrec.simulator.schedule import FIRST_PIN_MS, NO_PRODUCT, PIN_EVERY_MS, Rooms
from roomrec.simulator.truth import TYPICAL_UTILITY, choose, product_utility, sigmoid

_PIN_BOOST = 1.2
_LATEST_ORDER_MS = 3 * 3_600_000


def shop(
    population: Population,
    rooms: Rooms,
    rng: np.random.Generator,
    *,
    user: npt.NDArray[np.int64],
    room: npt.NDArray[np.int64],
    from_ms: npt.NDArray[np.int64],
    until_ms: npt.NDArray[np.int64],
    request: npt.NDArray[np.int64],
) -> list[EventRows]:
    """Simulate two chances to click in each view, and what follows.

    An order may come after the viewer left, but not after the room ended or the product was taken off. Stock is not
    known here: see ``stock.py``.

    Args:
        population: The world's population.
        rooms: The rooms of the day.
        rng: Decides.
        user: Viewers ``[n]``.
        room: Where they are ``[n]``.
        from_ms: Since when ``[n]``.
        until_ms: Until when ``[n]``.
        request: The slate that led there ``[n]``.

    Returns:
        Clicks, carts and orders.
    """
    parts = []
    for _ in range(2):
        who = np.flatnonzero(rng.random(len(user)) < 0.35)
        at_ms = from_ms[who] + ((until_ms[who] - from_ms[who]) * rng.uniform(0.1, 1.0, size=len(who))).astype(np.int64)
        place, utility = _look(population, rooms, rng, user=user[who], room=room[who], at_ms=at_ms)
        liking = utility - TYPICAL_UTILITY
        clicks = (place >= 0) & (rng.random(len(who)) < sigmoid(0.5 + 0.5 * liking))
        who, place, at_ms, liking = who[clicks], place[clicks], at_ms[clicks], liking[clicks]
        parts += _after_click(
            population,
            rooms,
            rng,
            user=user[who],
            room=room[who],
            place=place,
            at_ms=at_ms,
            until_ms=until_ms[who],
            liking=liking,
            request=request[who],
        )
    return parts


def _look(
    population: Population,
    rooms: Rooms,
    rng: np.random.Generator,
    *,
    user: npt.NDArray[np.int64],
    room: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw the listed product each viewer looks at (its place, -1 if nothing is listed) and its utility."""
    product = np.maximum(rooms.product[room], 0)
    listed = rooms.product[room] != NO_PRODUCT
    listed &= (rooms.listed_ms[room] <= at_ms[:, None]) & (rooms.unlisted_ms[room] > at_ms[:, None])
    utility = product_utility(population, user=user, at_ms=at_ms, product=product)
    period = (at_ms - rooms.start_ms[room] - FIRST_PIN_MS) // PIN_EVERY_MS
    pinned = np.where(period >= 0, rooms.pinned[room, np.maximum(period, 0)], -1)
    on_air = np.arange(product.shape[1]) == pinned[:, None]
    place = choose(utility + _PIN_BOOST * on_air, listed, rng)
    return place, utility[np.arange(len(place)), place].astype(np.float64)


def _after_click(
    population: Population,
    rooms: Rooms,
    rng: np.random.Generator,
    *,
    user: npt.NDArray[np.int64],
    room: npt.NDArray[np.int64],
    place: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
    until_ms: npt.NDArray[np.int64],
    liking: npt.NDArray[np.float64],
    request: npt.NDArray[np.int64],
) -> list[EventRows]:
    """The clicks themselves, carts soon after, orders soon or late."""
    product = rooms.product[room, place]
    streamer = rooms.streamer[room]
    num = len(user)
    price = population.products.price_cents[product]
    spending = population.viewers.spending[user].astype(np.float64)
    carts = rng.random(num) < sigmoid(-0.9 + 0.4 * liking + 0.5 * spending)
    cart_ms = np.minimum(at_ms + rng.integers(1_000, 30_000, size=num), until_ms)
    orders = carts & (rng.random(num) < sigmoid(0.2 + 0.3 * liking + 0.5 * spending))
    soon = np.exp(rng.normal(np.log(60_000), 0.8, size=num))
    late = np.exp(rng.normal(np.log(25 * 60_000), 0.6, size=num))
    delay = np.minimum(np.where(rng.random(num) < 0.75, soon, late), _LATEST_ORDER_MS).astype(np.int64)
    order_ms = cart_ms + delay
    closes_ms = np.minimum(rooms.unlisted_ms[room, place], rooms.end_ms[room]) - 2
    carts &= cart_ms < closes_ms
    orders &= carts & (order_ms < closes_ms)
    quantity = 1 + (rng.random(num) < 0.15) + (rng.random(num) < 0.03)
    parts = [
        event_rows(
            "product_click", at_ms=at_ms, user=user, room=room, streamer=streamer, product=product, request=request
        )
    ]
    for event_type, mask, when in (("add_to_cart", carts, cart_ms), ("order", orders, order_ms)):
        parts.append(
            event_rows(
                event_type,
                at_ms=when[mask],
                user=user[mask],
                room=room[mask],
                streamer=streamer[mask],
                product=product[mask],
                amount_cents=(price * quantity)[mask],
                quantity=quantity[mask],
                request=request[mask],
                since_click_ms=(when - at_ms)[mask],
            )
        )
    return parts
