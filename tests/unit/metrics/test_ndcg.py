"""NDCG, with the discounts 1, .6309, .5, .4307, .3869 for the first five places."""

import numpy as np
import pytest

from roomrec.metrics import ndcg


@pytest.mark.parametrize(
    ("ranks", "offsets", "k", "values"),
    [
        ([1, 2, 3, 4, 11], [0, 1, 2, 3, 4, 5], 10, [1.0, 0.6309, 0.5, 0.4307, 0.0]),
        ([7], [0, 1], 10, [0.3333]),
        # two targets, both on top: ideal
        ([2, 1], [0, 2], 10, [1.0]),
        # second and fourth of two: (.6309 + .4307) / (1 + .6309)
        ([2, 4], [0, 2], 10, [0.6509]),
        # one of three found first, only two places: 1 / (1 + .6309)
        ([1, 9, 30], [0, 3], 2, [0.6131]),
        ([5], [0, 1], 4, [0.0]),
    ],
)
def test_values(ranks, offsets, k, values):
    assert ndcg(np.array(ranks), np.array(offsets), k=k) == pytest.approx(values, abs=1e-4)
