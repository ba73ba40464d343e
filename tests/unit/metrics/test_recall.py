"""Recall."""

import numpy as np
import pytest

from roomrec.metrics import recall


@pytest.mark.parametrize(
    ("ranks", "offsets", "k", "values"),
    [
        ([1, 5, 6], [0, 1, 2, 3], 5, [1.0, 1.0, 0.0]),
        ([1, 2, 30, 40], [0, 4], 20, [0.5]),
        ([1, 2, 3, 4], [0, 4], 2, [0.5]),
        ([21, 7, 3], [0, 1, 3], 20, [0.0, 1.0]),
    ],
)
def test_shares(ranks, offsets, k, values):
    assert recall(np.array(ranks), np.array(offsets), k=k).tolist() == values


def test_a_query_without_target_is_an_error():
    with pytest.raises(ValueError, match="without target"):
        recall(np.array([1, 2]), np.array([0, 2, 2]), k=5)


def test_offsets_must_cover_the_ranks():
    with pytest.raises(ValueError, match="from 0 to 1, expected 0 to 2"):
        recall(np.array([1, 2]), np.array([0, 1]), k=5)
