"""Softmax by hand."""

import math

import pytest
import torch

from roomrec.batches.batch import CandidateBatch
from roomrec.losses.softmax import Softmax
from tests.unit.losses.one_user import loss_of, random_batch

LOGITS = [
    # positive, negatives, real, loss
    (0.0, [0.0, 0.0, 0.0], [True, True, True], math.log(4)),
    (2.0, [1.0, 0.0], [True, True], 0.4076),
    (2.0, [1.0, 99.0], [True, False], 0.3133),
    (5.0, [7.0, 7.0], [False, False], 0.0),
    (1000.0, [0.0, -1000.0], [True, True], 0.0),
]


@pytest.mark.parametrize(("positive", "negatives", "real", "expected"), LOGITS)
def test_own_negatives(positive, negatives, real, expected):
    assert loss_of(Softmax(), [positive], [negatives], [real]).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("positive", "negatives", "real", "expected"), LOGITS)
def test_shared_negatives(positive, negatives, real, expected):
    items = torch.tensor([positive, *negatives])[:, None]
    batch = CandidateBatch(
        torch.tensor([0]),
        torch.arange(len(negatives)) + 1,
        torch.tensor([real]),
        torch.zeros(1),
        torch.zeros(len(negatives)),
        0.5,
    )
    assert Softmax()(torch.ones(1, 1), items, batch).item() == pytest.approx(expected, abs=1e-4)


def test_every_item():
    items = torch.tensor([[2.0], [1.0], [0.0]])
    batch = CandidateBatch(torch.tensor([0, 2]), None, None, torch.zeros(2), torch.zeros(3), 1.0)
    # Of user [1] and the first item .4076, of user [0] log 3.
    loss = Softmax()(torch.tensor([[1.0], [0.0]]), items, batch)
    assert loss.item() == pytest.approx((0.4076 + math.log(3)) / 2, abs=1e-4)


def test_log_q_is_subtracted_from_both_sides():
    items = torch.tensor([[2.0], [3.0]])
    batch = CandidateBatch(
        torch.tensor([0]),
        torch.tensor([1]),
        torch.tensor([[True]]),
        torch.tensor([1.0]),
        torch.tensor([2.0]),
        0.5,
    )
    assert Softmax()(torch.ones(1, 1), items, batch).item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients(shared):
    users, items, batch = random_batch(shared=shared)
    assert torch.autograd.gradcheck(lambda u, i: Softmax()(u, i, batch), (users, items))


def test_gradients_of_every_item():
    users, items, batch = random_batch(shared=True)
    everything = CandidateBatch(batch.positive, None, None, torch.zeros(5), torch.zeros(9), 1.0)
    assert torch.autograd.gradcheck(lambda u, i: Softmax()(u, i, everything), (users, items))


def test_shared_negatives_equal_the_same_ones_drawn_for_each():
    users, items, batch = random_batch(shared=True)
    each = batch._replace(negative=batch.negative.expand(5, 4), negative_log_q=batch.negative_log_q.expand(5, 4))
    torch.testing.assert_close(Softmax()(users, items, batch), Softmax()(users, items, each))


def test_no_gradient_reaches_what_does_not_count():
    items = torch.tensor([[0.0], [3.0], [4.0]], requires_grad=True)
    batch = CandidateBatch(
        torch.tensor([0]),
        torch.tensor([1, 2]),
        torch.tensor([[True, False]]),
        torch.zeros(1),
        torch.zeros(2),
        0.5,
    )
    Softmax()(torch.ones(1, 1), items, batch).backward()
    assert items.grad[1] > 0.9
    assert items.grad[2] == 0.0
