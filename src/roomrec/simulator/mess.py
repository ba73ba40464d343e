"""What real platforms do to a log: duplicates, late arrivals, fast clocks and rows that break the contract."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.simulator.config import WorldConfig
from roomrec.simulator.rows import NONE, EventRows, by_viewer, number_rows, take_rows

_HOUR_MS = 3_600_000
_MAX_SKEW_MS = 8 * 60_000


class Deliveries(NamedTuple):
    """Events as they arrive, in order of arrival."""

    rows: EventRows
    received_ms: npt.NDArray[np.int64]
    """[n]"""
    number: npt.NDArray[np.int64]
    """[n] number of the event, as ``number_rows`` gives it; a duplicate has that of the first"""


def deliver(config: WorldConfig, rows: EventRows, *, day: int) -> Deliveries:
    """Deliver the events of a day with the mess the configuration asks for.

    Args:
        config: Rates of each kind of mess.
        rows: Events in order of time.
        day: Counted from the first.

    Returns:
        Deliveries. A broken row is one more row, a damaged copy under a number of its own, so the good ones stay whole.
    """
    rng = np.random.default_rng([config.seed, 104, day])
    num = len(rows.at_ms)
    viewers = by_viewer(rows)
    received = rows.at_ms + 40 + np.exp(rng.normal(5.0, 0.8, size=num)).astype(np.int64)
    late = rng.random(num) < config.late_rate
    hours = np.where(rng.random(num) < 0.2, rng.uniform(24, 80, size=num), rng.exponential(4.0, size=num))
    received = np.where(late, received + (hours * _HOUR_MS).astype(np.int64), received)
    skewed = viewers & ~late & (rng.random(num) < config.skew_rate)
    claimed = np.where(skewed, received + rng.integers(500, _MAX_SKEW_MS, size=num), rows.at_ms)
    again = np.flatnonzero(rng.random(num) < config.duplicate_rate)
    again_ms = received[again] + rng.exponential(60_000, size=len(again)).astype(np.int64) + 1
    broken = np.flatnonzero(viewers & (rng.random(num) < config.broken_rate))
    source = np.concatenate([np.arange(num), again, broken])
    received = np.concatenate([received, again_ms, received[broken]])
    numbers = number_rows(rows)
    fresh = int(np.sum(viewers)) + np.arange(len(broken))
    number = np.concatenate([numbers, numbers[again], fresh])
    is_broken = np.arange(len(source)) >= num + len(again)
    order = np.lexsort((number, received))
    delivered = take_rows(rows, source[order])
    user = np.where(is_broken[order], np.int32(NONE), delivered.user)
    delivered = delivered._replace(user=user, at_ms=claimed[source[order]])
    return Deliveries(rows=delivered, received_ms=received[order], number=number[order])
