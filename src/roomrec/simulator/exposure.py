"""What is put before viewers and what they pick: the logging policy's slates, and rooms entered without one."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.simulator.config import DAY_MS
from roomrec.simulator.population import Population
from roomrec.simulator.rows import NONE, EventRows, event_rows
from roomrec.simulator.schedule import Rooms
from roomrec.simulator.truth import TYPICAL_UTILITY, all_room_utility, choose, room_utility
from roomrec.simulator.words import DEVICES, REGIONS

SURFACES: Final = ("room_feed", "following", "search")
"""Where a viewer enters from: a slate, or without one."""

NUM_VIEWER_CONTEXTS: Final = len(SURFACES) * len(DEVICES) * len(REGIONS)
"""Contexts 0 .. here - 1 are combinations of surface, device and region."""

MINUTES_A_DAY: Final = 1_440
"""Who is live is looked up by the minute."""

STAY_AWAY_UTILITY: Final = 2.0
"""Utility of entering none of the rooms shown."""

_MINUTE_MS = 60_000
_CHUNK = 8_192


class Visits(NamedTuple):
    """Viewers who enter rooms, n of them."""

    user: npt.NDArray[np.int64]
    """[n]"""
    room: npt.NDArray[np.int64]
    """[n] number in the day's rooms"""
    enter_ms: npt.NDArray[np.int64]
    """[n] while the room is live"""
    utility: npt.NDArray[np.float32]
    """[n] of the room to the viewer"""
    request: npt.NDArray[np.int64]
    """[n] the slate that showed the room, or NONE"""
    position: npt.NDArray[np.int64]
    """[n] its place there, or NONE"""
    surface: npt.NDArray[np.int64]
    """[n] number in SURFACES"""


def take_visits(visits: Visits, index: npt.NDArray[np.int64]) -> Visits:
    """Pick visits by number."""
    return Visits._make(column[index] for column in visits)


def join_visits(first: Visits, second: Visits) -> Visits:
    """Put visits one after another."""
    return Visits._make(np.concatenate([a, b]) for a, b in zip(tuple(first), tuple(second), strict=True))


class LiveMinutes(NamedTuple):
    """Which rooms are live in each minute of a day, and the logging policy over them."""

    live: npt.NDArray[np.bool_]
    """[1440, R] live throughout the minute and long enough to be entered from it"""
    room: npt.NDArray[np.int64]
    """[entries] rooms, minute by minute"""
    first: npt.NDArray[np.int64]
    """[1441] where each minute begins in ``room``"""
    cumulative: npt.NDArray[np.float64]
    """[entries] minute + cumulative propensity up to and including the entry: ascending over the day"""
    propensity: npt.NDArray[np.float64]
    """[entries]"""


def live_minutes(rooms: Rooms, random_slot_rate: float) -> LiveMinutes:
    """Lay out who is live in each minute, and with which propensity the logging policy puts it in a slot."""
    day_start = rooms.start_ms.min() // DAY_MS * DAY_MS
    minute_ms = day_start + np.arange(MINUTES_A_DAY)[:, None] * _MINUTE_MS
    live = (rooms.start_ms <= minute_ms) & (rooms.end_ms >= minute_ms + 2 * _MINUTE_MS)
    minute, room = np.nonzero(live)
    first = np.concatenate([[0], np.cumsum(live.sum(axis=1))])
    popular = np.exp(0.8 * rooms.popularity.astype(np.float64))[room]
    popular /= np.maximum(np.bincount(minute, popular, minlength=MINUTES_A_DAY), 1e-12)[minute]
    uniform = 1.0 / np.maximum(live.sum(axis=1), 1)[minute]
    propensity = (1 - random_slot_rate) * popular + random_slot_rate * uniform
    total = np.concatenate([[0.0], np.cumsum(propensity)])
    within = total[1:] - total[first[minute]]
    return LiveMinutes(
        live=live, room=room, first=first, cumulative=minute + np.minimum(within, 1.0), propensity=propensity
    )


def viewer_context(
    population: Population, user: npt.NDArray[np.int64], surface: npt.NDArray[np.int64] | int
) -> npt.NDArray[np.int64]:
    """Return the number of each viewer's context, below ``NUM_VIEWER_CONTEXTS``."""
    viewers = population.viewers
    return (np.asarray(surface) * len(DEVICES) + viewers.device[user]) * len(REGIONS) + viewers.region[user]


def show_slates(
    population: Population,
    rooms: Rooms,
    minutes: LiveMinutes,
    rng: np.random.Generator,
    *,
    user: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
    num_requests: int,
) -> tuple[Visits, list[EventRows]]:
    """Show every viewer a slate; a slot that repeats an earlier one stays empty. ``room`` is -1 for who stays away."""
    num, size = len(user), population.config.slate_size
    minute = (at_ms // _MINUTE_MS) % MINUTES_A_DAY
    draw = np.searchsorted(minutes.cumulative, minute[:, None] + rng.random((num, size)), side="right")
    draw = np.minimum(draw, minutes.first[minute + 1][:, None] - 1)
    slate = minutes.room[draw]
    fresh = np.ones(slate.shape, dtype=bool)
    for slot in range(1, size):
        fresh[:, slot] = ~np.any(slate[:, :slot] == slate[:, slot, None], axis=1)
    utility = room_utility(population, rooms, user=user, at_ms=at_ms, room=slate)
    offers = np.concatenate([utility, np.full((num, 1), STAY_AWAY_UTILITY, dtype=np.float32)], axis=1)
    choice = choose(offers, np.concatenate([fresh, np.ones((num, 1), dtype=bool)], axis=1), rng)
    enters = choice < size
    choice = np.minimum(choice, size - 1)
    position = np.cumsum(fresh, axis=1) - 1
    request = num_requests + np.arange(num)
    row, place = np.nonzero(fresh)
    impressions = event_rows(
        "impression",
        at_ms=at_ms[row],
        user=user[row],
        room=slate[row, place],
        streamer=rooms.streamer[slate[row, place]],
        request=request[row],
        position=position[row, place],
        propensity=minutes.propensity[draw[row, place]].astype(np.float32),
        context=viewer_context(population, user[row], 0),
    )
    refused = (utility[row, place] < TYPICAL_UTILITY - 3.5) & (rng.random(len(row)) < 0.02)
    row, place = row[refused], place[refused]
    refusals = event_rows(
        "not_interested",
        at_ms=at_ms[row] + rng.integers(500, 4_000, size=len(row)),
        user=user[row],
        room=slate[row, place],
        streamer=rooms.streamer[slate[row, place]],
        request=request[row],
        position=position[row, place],
    )
    each = np.arange(num)
    visits = Visits(
        user=user,
        room=np.where(enters, slate[each, choice], -1),
        enter_ms=at_ms + rng.integers(600, 9_000, size=num),
        utility=utility[each, choice],
        request=request,
        position=position[each, choice],
        surface=np.zeros(num, dtype=np.int64),
    )
    return visits, [impressions, refusals]


def enter_directly(
    population: Population,
    rooms: Rooms,
    minutes: LiveMinutes,
    rng: np.random.Generator,
    *,
    user: npt.NDArray[np.int64],
    at_ms: npt.NDArray[np.int64],
) -> Visits:
    """Let every viewer choose among all live rooms, as those do who follow, search or are notified."""
    rooms_chosen: list[npt.NDArray[np.int64]] = []
    utilities: list[npt.NDArray[np.float32]] = []
    for start in range(0, len(user), _CHUNK):
        part = slice(start, start + _CHUNK)
        utility = all_room_utility(population, rooms, user=user[part], at_ms=at_ms[part])
        found = choose(utility, minutes.live[(at_ms[part] // _MINUTE_MS) % MINUTES_A_DAY], rng)
        rooms_chosen.append(found)
        utilities.append(utility[np.arange(len(found)), found])
    room = np.concatenate(rooms_chosen) if rooms_chosen else np.zeros(0, dtype=np.int64)
    favourite = np.any(population.viewers.favourite[user] == rooms.streamer[room][:, None], axis=1)
    return Visits(
        user=user,
        room=room,
        enter_ms=at_ms,
        utility=np.concatenate(utilities) if utilities else np.zeros(0, dtype=np.float32),
        request=np.full(len(user), NONE),
        position=np.full(len(user), NONE),
        surface=np.where(favourite, 1, 2),
    )
