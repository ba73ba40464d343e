"""Ranks: ties count against the model."""

import numpy as np
import pytest

from roomrec.metrics import pessimistic_ranks

NAN, OUT = float("nan"), float("-inf")


@pytest.mark.parametrize(
    ("scores", "targets", "ranks"),
    [
        ([0.9, 0.5, 0.1], [0], [1]),
        ([0.9, 0.5, 0.1], [2], [3]),
        ([0.9, 0.5, 0.5, 0.1], [1], [3]),
        ([0.0, 0.0, 0.0, 0.0], [2], [4]),
        ([0.7], [0], [1]),
        ([0.9, OUT, OUT, 0.1], [3], [2]),
        ([0.9, NAN, 0.1], [1], [3]),
        ([NAN, 0.5, 0.1], [1], [2]),
        ([NAN, NAN, NAN], [0], [3]),
        ([0.9, 0.5, 0.7, 0.1], [3, 0, 2], [4, 1, 2]),
        ([0.5, 0.5, 0.5, 0.1], [0, 1], [2, 3]),
        ([0.5, 0.5, 0.5, 0.1], [0, 1, 2, 3], [1, 2, 3, 4]),
        ([0.5, 0.9, 0.5, 0.1], [2, 3, 0], [2, 4, 3]),
    ],
)
def test_ranks(scores, targets, ranks):
    assert pessimistic_ranks(np.array(scores), np.array(targets)).tolist() == ranks


def test_a_constant_scorer_finds_nothing():
    ranks = [pessimistic_ranks(np.zeros(100, dtype=np.float32), np.array([target]))[0] for target in range(100)]
    assert set(ranks) == {100}
