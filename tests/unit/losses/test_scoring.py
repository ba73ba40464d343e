"""Dot products with candidates."""

import pytest
import torch

from roomrec.batches.batch import CandidateBatch
from roomrec.losses.scoring import score_candidates

USERS = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
ITEMS = torch.tensor([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])


def candidates(negative, negative_log_q) -> CandidateBatch:
    return CandidateBatch(
        positive=torch.tensor([0, 2]),
        negative=None if negative is None else torch.tensor(negative),
        real=None if negative is None else torch.ones(2, 2, dtype=torch.bool),
        positive_log_q=torch.tensor([0.5, 0.0]),
        negative_log_q=torch.tensor(negative_log_q),
        sampling_rate=1.0,
    )


def test_shared_negatives():
    positive, negative, real = score_candidates(USERS, ITEMS, candidates([1, 2], [0.0, 1.0]))
    assert positive.tolist() == [0.5, 14.0]
    assert negative.tolist() == [[2.0, 2.0], [12.0, 13.0]]
    assert real.all()


@pytest.mark.parametrize("copies", [1, 100])
def test_own_negatives_few_or_many_items(copies):
    batch = candidates([[1, 2], [0, 1]], [[0.0, 0.0], [1.0, 0.0]])
    positive, negative, _ = score_candidates(USERS, ITEMS.repeat(copies, 1), batch)
    assert positive.tolist() == [0.5, 14.0]
    assert negative.tolist() == [[2.0, 3.0], [9.0, 12.0]]


def test_every_item_but_the_positive():
    _, negative, real = score_candidates(USERS, ITEMS, candidates(None, [0.0]))
    assert negative.tolist() == [[1.0, 2.0, 3.0], [10.0, 12.0, 14.0]]
    assert real.tolist() == [[False, True, True], [True, True, False]]
