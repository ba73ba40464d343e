"""The mess of real platforms comes at the rates asked for, and the contract catches what it should."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from roomrec.events.schema import MAX_CLOCK_SKEW_MS
from roomrec.events.validation import validate_table
from roomrec.simulator.config import WorldConfig
from roomrec.simulator.world import World

HOUR_MS = 3_600_000
SIZE = {"seed": 3, "num_days": 2, "num_viewers": 500, "num_streamers": 20}


def log_with(**rates):
    clean = {"duplicate_rate": 0.0, "late_rate": 0.0, "skew_rate": 0.0, "broken_rate": 0.0}
    return pa.concat_tables(World(WorldConfig(**SIZE, **(clean | rates))).days()).unify_dictionaries()


@pytest.fixture(scope="module")
def clean():
    return log_with()


def test_a_clean_log_is_accepted_whole_and_arrives_within_seconds(clean):
    accepted, rejected = validate_table(clean)
    assert (len(accepted), len(rejected)) == (len(clean), 0)
    delay = np.asarray(pc.subtract(clean["received_at_ms"], clean["occurred_at_ms"]))
    assert delay.min() >= 40
    assert delay.max() < 60_000


def test_duplicates_keep_their_id_and_come_later(clean):
    log = log_with(duplicate_rate=0.05)
    assert len(log) - len(clean) == pytest.approx(0.05 * len(clean), rel=0.25)
    by_id = log.group_by("event_id").aggregate(
        [("received_at_ms", "min"), ("received_at_ms", "max"), ("occurred_at_ms", "min"), ("occurred_at_ms", "max")]
    )
    assert len(by_id) == len(clean)
    assert by_id["occurred_at_ms_min"].equals(by_id["occurred_at_ms_max"])
    twice = by_id.filter(pc.greater(by_id["received_at_ms_max"], by_id["received_at_ms_min"]))
    assert len(twice) == len(log) - len(clean)


def test_late_events_come_hours_or_days_late_and_out_of_order():
    log = log_with(late_rate=0.05)
    received, occurred = np.asarray(log["received_at_ms"]), np.asarray(log["occurred_at_ms"])
    assert np.mean(received - occurred > HOUR_MS / 10) == pytest.approx(0.05, rel=0.25)
    assert np.max(received - occurred) > 24 * HOUR_MS
    assert np.any(np.diff(occurred) < -HOUR_MS)


def test_a_fast_clock_is_believed_and_set_right_by_validation(clean):
    log = log_with(skew_rate=0.05)
    ahead = np.asarray(pc.subtract(log["occurred_at_ms"], log["received_at_ms"]))
    assert np.mean(ahead > 0) == pytest.approx(0.05, rel=0.25)
    assert ahead.max() < MAX_CLOCK_SKEW_MS
    accepted, rejected = validate_table(log)
    assert len(rejected) == 0
    truth = clean.sort_by("event_id")["occurred_at_ms"]
    error = np.asarray(pc.subtract(accepted.sort_by("event_id")["occurred_at_ms"], truth))
    assert error.min() >= 0
    assert error.max() < 60_000


def test_broken_rows_are_added_and_rejected(clean):
    accepted, rejected = validate_table(log_with(broken_rate=0.02))
    assert len(accepted) == len(clean)
    assert 0.01 * len(clean) < len(rejected) < 0.03 * len(clean)
    assert set(rejected["reason"].to_pylist()) == {"missing:user_id"}


def test_by_default_there_is_a_little_of_everything():
    log = pa.concat_tables(World(WorldConfig(**SIZE)).days()).unify_dictionaries()
    accepted, rejected = validate_table(log)
    assert 0 < len(rejected) < 0.002 * len(log)
    assert 0 < len(accepted) - len(pc.unique(accepted["event_id"])) < 0.005 * len(log)
