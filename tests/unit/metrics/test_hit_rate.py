"""Hit rate."""

import numpy as np
import pytest

from roomrec.metrics import hit_rate


@pytest.mark.parametrize(
    ("k", "hits"),
    [(1, [1, 0, 0, 0]), (5, [1, 1, 0, 1]), (6, [1, 1, 1, 1])],
)
def test_one_target_each_and_one_query_with_two(k, hits):
    assert hit_rate(np.array([1, 5, 6, 40, 2]), np.array([0, 1, 2, 3, 5]), k=k).tolist() == hits
