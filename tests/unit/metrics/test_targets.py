"""Sums over the targets of each query."""

import numpy as np
import pytest

from roomrec.metrics.targets import sum_by_query


def test_sums():
    assert sum_by_query(np.array([1, 2, 4, 8]), np.array([0, 1, 4])).tolist() == [1.0, 14.0]
    assert sum_by_query(np.array([True, False, True]), np.array([0, 2, 3])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 1], "from 0 to 1, expected 0 to 2"),
        ([1, 2], "from 1 to 2, expected 0 to 2"),
        ([0, 2, 2], "without target"),
    ],
)
def test_offsets_must_fit(offsets, message):
    with pytest.raises(ValueError, match=message):
        sum_by_query(np.array([1, 2]), np.array(offsets))
