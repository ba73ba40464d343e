"""A viewer in a room: enter, watch, react, follow, shop, leave."""

from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.simulator.exposure import Visits, take_visits, viewer_context
from roomrec.simulator.population import Population
from roomrec.simulator.rows import NONE, EventRows, IntColumn, event_rows, join_rows
from roomrec.simulator.schedule import Rooms
from roomrec.simulator.shopping import shop
from roomrec.simulator.truth import TYPICAL_UTILITY, sigmoid

SHORT_VIEW_MS: Final = 3_000
"""Below this a view is short: the viewer did not mean it."""

_REACTION_LEVELS: Final = {"like": -2.0, "comment": -3.2, "share": -4.6, "gift": -4.6, "coupon_claim": -4.2}
"""Log-odds of each reaction in a view of a typical room."""

_FOLLOW_AFTER_MS = 20_000
_MAX_VIEW_MS = 45 * 60_000


def visit_rooms(
    population: Population,
    rooms: Rooms,
    visits: Visits,
    rng: np.random.Generator,
    *,
    followed: npt.NDArray[np.bool_] | None = None,
) -> tuple[EventRows, npt.NDArray[np.int64]]:
    """Simulate visits: enter, watch, leave, reactions and shopping.

    Args:
        population: The world's population.
        rooms: The rooms of the day.
        visits: Who enters what and when.
        rng: Decides.
        followed: As for ``simulate_viewers``.

    Returns:
        The events, and when each viewer left ``[n]``.
    """
    user, room, enter_ms = visits.user, visits.room, visits.enter_ms
    num = len(user)
    liking = visits.utility.astype(np.float64) - TYPICAL_UTILITY
    stays = rng.random(num) < sigmoid(1.3 + 0.5 * liking)
    short = rng.uniform(200, SHORT_VIEW_MS - 1, size=num)
    long = SHORT_VIEW_MS + np.exp(rng.normal(np.log(40_000), 1.0, size=num) + 0.25 * liking)
    watched = np.where(stays, np.minimum(long, _MAX_VIEW_MS), short).astype(np.int64)
    until_ms = np.minimum(enter_ms + watched, rooms.end_ms[room] - 2)
    watched = until_ms - enter_ms
    context = viewer_context(population, user, visits.surface)
    streamer = rooms.streamer[room]
    at_enter = event_rows(
        "enter",
        at_ms=enter_ms,
        user=user,
        room=room,
        streamer=streamer,
        request=visits.request,
        position=visits.position,
        context=context,
    )
    at_end = event_rows(
        "watch",
        at_ms=until_ms,
        user=user,
        room=room,
        streamer=streamer,
        watch_time_ms=watched,
        request=visits.request,
    )
    at_leave = event_rows("leave", at_ms=until_ms + 1, user=user, room=room, streamer=streamer, request=visits.request)
    stayed = np.flatnonzero(watched >= SHORT_VIEW_MS)
    visits = take_visits(visits, stayed)
    parts = [at_enter, at_end, at_leave, *_react(population, rooms, visits, until_ms[stayed], rng, followed)]
    parts += shop(
        population,
        rooms,
        rng,
        user=visits.user,
        room=visits.room,
        from_ms=visits.enter_ms,
        until_ms=until_ms[stayed],
        request=visits.request,
    )
    return join_rows(parts), until_ms


def _react(
    population: Population,
    rooms: Rooms,
    visits: Visits,
    until_ms: npt.NDArray[np.int64],
    rng: np.random.Generator,
    followed: npt.NDArray[np.bool_] | None,
) -> list[EventRows]:
    """Likes, comments, shares, gifts, coupons and follows of viewers who stay."""
    liking = visits.utility.astype(np.float64) - TYPICAL_UTILITY
    parts = []
    for event_type, level in _REACTION_LEVELS.items():
        who = np.flatnonzero(rng.random(len(liking)) < sigmoid(level + 0.4 * liking))
        span = until_ms[who] - visits.enter_ms[who]
        paid: IntColumn = NONE
        if event_type in ("gift", "coupon_claim"):
            paid = 100 * rng.integers(1, 50, size=len(who))
        parts.append(
            event_rows(
                event_type,
                at_ms=visits.enter_ms[who] + (span * rng.uniform(0.1, 1.0, size=len(who))).astype(np.int64),
                user=visits.user[who],
                room=visits.room[who],
                streamer=rooms.streamer[visits.room[who]],
                amount_cents=paid,
                request=visits.request[who],
            )
        )
    if followed is not None:
        parts.append(_follow(population, rooms, visits, until_ms, followed))
    return parts


def _follow(
    population: Population,
    rooms: Rooms,
    visits: Visits,
    until_ms: npt.NDArray[np.int64],
    followed: npt.NDArray[np.bool_],
) -> EventRows:
    """Follow a favourite at the end of the first view of 20 seconds; a viewer is in one room at a time."""
    viewers = population.viewers
    streamer = rooms.streamer[visits.room]
    wanted = viewers.favourite[visits.user] == streamer[:, None]
    wanted &= viewers.favourite_from_day[visits.user] <= rooms.day
    wanted &= ~followed[visits.user] & ((until_ms - visits.enter_ms) >= _FOLLOW_AFTER_MS)[:, None]
    row, place = np.nonzero(wanted)
    followed[visits.user[row], place] = True
    return event_rows(
        "follow",
        at_ms=until_ms[row],
        user=visits.user[row],
        room=visits.room[row],
        streamer=streamer[row],
        request=visits.request[row],
    )
