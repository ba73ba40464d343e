"""Tiny worlds, simulated once."""

import pyarrow as pa
import pytest

from roomrec.simulator.config import WorldConfig
from roomrec.simulator.world import World

NO_MESS = {"duplicate_rate": 0.0, "late_rate": 0.0, "skew_rate": 0.0, "broken_rate": 0.0}


@pytest.fixture(scope="session")
def tiny_world() -> World:
    """Four days, delivered as they happened."""
    return World(WorldConfig(seed=3, num_days=4, num_viewers=400, num_streamers=30, stock_per_product=3, **NO_MESS))


@pytest.fixture(scope="session")
def tiny_log(tiny_world: World) -> pa.Table:
    """Its log in order of time; what rooms do at an instant comes before what viewers do."""
    log = pa.concat_tables(tiny_world.days()).unify_dictionaries()
    return log.sort_by([("occurred_at_ms", "ascending"), ("event_id", "ascending")])
