"""Coverage."""

import numpy as np
import pytest

from roomrec.metrics import coverage


@pytest.mark.parametrize(
    ("shown", "num_candidates", "k", "share"),
    [
        ([[5, 6], [5, 7]], 4, 1, 0.25),
        ([[5, 6], [5, 7]], 4, 2, 0.75),
        ([[5, 0], [0, 0]], 2, 2, 0.5),
        ([[0, 0]], 3, 2, 0.0),
    ],
)
def test_values(shown, num_candidates, k, share):
    assert coverage(np.array(shown), num_candidates=num_candidates, k=k) == share
