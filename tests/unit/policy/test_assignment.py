"""Who is in an experiment."""

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from roomrec.policy.assignment import is_assigned, place_of

IDS = st.text(max_size=128)
SHARES = st.floats(0.0, 1.0)


@given(IDS, IDS)
def test_places_are_in_the_unit_interval_and_stay(user_id: str, experiment: str) -> None:
    place = place_of(user_id, experiment=experiment)
    assert 0.0 <= place < 1.0
    assert place_of(user_id, experiment=experiment) == place


@given(IDS, IDS, SHARES, SHARES)
def test_whoever_is_in_stays_in_while_the_share_grows(user_id: str, experiment: str, one: float, other: float) -> None:
    small, great = sorted((one, other))
    if is_assigned(user_id, experiment=experiment, share=small):
        assert is_assigned(user_id, experiment=experiment, share=great)


@given(IDS, IDS)
def test_nobody_and_everybody(user_id: str, experiment: str) -> None:
    assert not is_assigned(user_id, experiment=experiment, share=0.0)
    assert is_assigned(user_id, experiment=experiment, share=1.0)


def test_places_are_uniform() -> None:
    counts, _ = np.histogram([place_of(f"u{n}", experiment="v2") for n in range(100_000)], bins=100, range=(0, 1))
    # chi squared with 99 degrees of freedom is below 148.2 in 999 of 1000 cases, and these places never change
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 148.2


def test_experiments_are_independent() -> None:
    users = [f"u{n}" for n in range(20_000)]
    in_first = np.array([is_assigned(user, experiment="v2", share=0.3) for user in users])
    in_second = np.array([is_assigned(user, experiment="v3", share=0.3) for user in users])
    assert abs(in_first.mean() - 0.3) < 0.01
    assert abs(in_second[in_first].mean() - 0.3) < 0.02
    assert abs(in_second[~in_first].mean() - 0.3) < 0.02


def test_neighbouring_names_do_not_run_together() -> None:
    assert place_of("bc", experiment="a") != place_of("c", experiment="ab")


def test_another_process_assigns_alike() -> None:
    code = "from roomrec.policy.assignment import place_of; print(place_of('ann', experiment='first'))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert float(told.stdout) == place_of("ann", experiment="first") == 0.7707217175203454
