"""Novelty: with one event added to each, items 1, 2, 3 have 4, 2 and 2 of 8 events, so 1, 2 and 2 bits."""

import numpy as np
import pytest

from roomrec.metrics import novelty

COUNTS = np.array([0, 3, 1, 1])


@pytest.mark.parametrize(
    ("shown", "k", "bits"),
    [
        ([[1, 2]], 1, 1.0),
        ([[1, 2]], 2, 1.5),
        ([[1, 0], [3, 2]], 2, 5 / 3),
        ([[0, 0]], 2, 0.0),
    ],
)
def test_values(shown, k, bits):
    assert novelty(np.array(shown), counts=COUNTS, k=k) == pytest.approx(bits)


def test_what_nobody_chose_is_the_most_novel():
    shown = np.array([[1], [2]])
    assert novelty(shown[1:], counts=np.array([0, 9, 0]), k=1) > novelty(shown[:1], counts=np.array([0, 9, 0]), k=1)
