"""MRR."""

import numpy as np
import pytest

from roomrec.metrics import reciprocal_rank


@pytest.mark.parametrize(
    ("ranks", "offsets", "k", "values"),
    [
        ([1, 2, 4, 20], [0, 1, 2, 3, 4], 10, [1.0, 0.5, 0.25, 0.0]),
        ([8, 2, 5], [0, 3], 10, [0.5]),
        ([8, 5], [0, 2], 4, [0.0]),
    ],
)
def test_values(ranks, offsets, k, values):
    assert reciprocal_rank(np.array(ranks), np.array(offsets), k=k).tolist() == values
