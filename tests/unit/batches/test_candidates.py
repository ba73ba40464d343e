"""Distinct items of a batch."""

import numpy as np

from roomrec.batches.candidates import collate_candidates
from roomrec.batches.negatives import SampledNegatives


def test_each_item_is_encoded_once():
    negatives = SampledNegatives(
        item=np.array([[9, 4], [4, 0]]),
        real=np.array([[True, True], [True, False]]),
        positive_log_q=np.zeros(2, dtype=np.float32),
        negative_log_q=np.zeros((2, 2), dtype=np.float32),
        sampling_rate=0.5,
    )
    distinct, batch = collate_candidates(np.array([4, 7]), negatives)
    assert distinct.tolist() == [0, 4, 7, 9]
    assert batch.positive.tolist() == [1, 2]
    assert batch.negative.tolist() == [[3, 1], [1, 0]]
    assert batch.real.tolist() == [[True, True], [True, False]]
    assert batch.sampling_rate == 0.5


def test_every_item_needs_no_places():
    nothing = np.zeros(3, dtype=np.float32)
    every_item = SampledNegatives(np.array([2, 3, 4]), None, nothing[:2], nothing, 1.0)
    distinct, batch = collate_candidates(np.array([4, 2]), every_item)
    assert distinct.tolist() == [2, 3, 4]
    assert batch.positive.tolist() == [2, 0]
    assert batch.negative is None
    assert batch.real is None
