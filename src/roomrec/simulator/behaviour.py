"""The day of all viewers: they come, choose, watch and come back for more, all sessions turn by turn."""

import numpy as np
import numpy.typing as npt

from roomrec.simulator.config import DAY_MS
from roomrec.simulator.exposure import (
    MINUTES_A_DAY,
    enter_directly,
    join_visits,
    live_minutes,
    show_slates,
    take_visits,
)
from roomrec.simulator.population import Population
from roomrec.simulator.rows import EventRows, event_rows, join_rows
from roomrec.simulator.schedule import Rooms
from roomrec.simulator.visits import visit_rooms

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000
_MAX_VIEWS = 16


def simulate_viewers(
    population: Population, rooms: Rooms, *, followed: npt.NDArray[np.bool_] | None = None
) -> EventRows:
    """Simulate what all viewers do on the day of the rooms, orders of sold-out products included.

    Args:
        population: The world's population.
        rooms: The rooms of the day.
        followed: ``[U, F]`` which favourites are followed already; changed in place. None: nobody follows anew.

    Returns:
        Events in no order; ``stock.py`` takes away what stock does not allow.
    """
    config = population.config
    rng = np.random.default_rng([config.seed, 102, rooms.day])
    minutes = live_minutes(rooms, config.random_slot_rate)
    day_start = config.start_at_ms + rooms.day * DAY_MS
    user, at_ms, until_ms, views = _sessions(population, rooms.day, rng)
    parts = [event_rows("impression", at_ms=np.zeros(0, dtype=np.int64))]
    num_requests = 0
    for turn in range(_MAX_VIEWS):
        minute = np.minimum((at_ms - day_start) // _MINUTE_MS, MINUTES_A_DAY - 1)
        going = (views > turn) & (at_ms < until_ms) & (minutes.first[minute + 1] > minutes.first[minute])
        user, at_ms, until_ms, views = user[going], at_ms[going], until_ms[going], views[going]
        if len(user) == 0:
            break
        direct = rng.random(len(user)) < config.direct_entry_rate
        slated, shown = show_slates(
            population, rooms, minutes, rng, user=user[~direct], at_ms=at_ms[~direct], num_requests=num_requests
        )
        num_requests += int(np.sum(~direct))
        found = enter_directly(population, rooms, minutes, rng, user=user[direct], at_ms=at_ms[direct])
        entered = np.concatenate([np.flatnonzero(~direct)[slated.room >= 0], np.flatnonzero(direct)])
        visits = join_visits(take_visits(slated, np.flatnonzero(slated.room >= 0)), found)
        events, left_ms = visit_rooms(population, rooms, visits, rng, followed=followed)
        parts += [*shown, events]
        at_ms = at_ms + rng.integers(5_000, 60_000, size=len(user))
        at_ms[entered] = left_ms + rng.integers(2_000, 40_000, size=len(left_ms))
    return join_rows(parts)


def _sessions(
    population: Population, day: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Viewer, start, latest entry and number of views of each session; everybody comes on the day they join."""
    config, viewers = population.config, population.viewers
    day_start = config.start_at_ms + day * DAY_MS
    joined_today = (viewers.joined_day == day) & (day > 0)
    comes = (viewers.joined_day <= day) & (rng.random(len(viewers.hour)) < viewers.activity) | joined_today
    evening = np.flatnonzero(comes)
    noon = evening[rng.random(len(evening)) < 0.2]
    evening_hour = np.clip(viewers.hour[evening] + rng.normal(scale=0.6, size=len(evening)), 17.0, 23.3)
    noon_hour = rng.uniform(10.5, 14.0, size=len(noon))
    user = np.concatenate([noon, evening])
    start = day_start + (np.concatenate([noon_hour, evening_hour]) * _HOUR_MS).astype(np.int64)
    until = day_start + np.repeat([16 * _HOUR_MS, DAY_MS - 5 * _MINUTE_MS], [len(noon), len(evening)])
    views = np.minimum(rng.geometric(1.0 / config.views_per_session, size=len(user)), _MAX_VIEWS)
    return user, start, until, views
