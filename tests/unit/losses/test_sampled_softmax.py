"""Sampled softmax by hand."""

import math

import pytest
import torch

from roomrec.losses.sampled_softmax import SampledSoftmax

LOGITS = [
    # positive, negatives, real, loss
    (0.0, [0.0, 0.0, 0.0], [True, True, True], math.log(4)),
    (2.0, [1.0, 0.0], [True, True], 0.4076),
    (2.0, [1.0, 99.0], [True, False], 0.3133),
    (5.0, [7.0, 7.0], [False, False], 0.0),
    (1000.0, [0.0, -1000.0], [True, True], 0.0),
]


@pytest.mark.parametrize(("positive", "negatives", "real", "expected"), LOGITS)
def test_one_positive(positive, negatives, real, expected):
    loss = SampledSoftmax()(torch.tensor([positive]), torch.tensor([negatives]), torch.tensor([real]))
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def test_the_mean_of_positives():
    loss = SampledSoftmax()(
        torch.tensor([0.0, 2.0]), torch.tensor([[0.0, 9.0], [1.0, 0.0]]), torch.tensor([[True, False], [True, True]])
    )
    assert loss.item() == pytest.approx((0.6931 + 0.4076) / 2, abs=1e-4)


def test_gradients():
    positive = torch.randn(3, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    real = torch.tensor([[True, True, False, True], [False, True, True, True], [False, False, False, False]])
    # The loss computes in float32, so the check is coarse.
    assert torch.autograd.gradcheck(
        lambda one, many: SampledSoftmax()(one, many, real), (positive, negative), eps=1e-2, atol=1e-2, rtol=1e-2
    )


def test_no_gradient_reaches_what_does_not_count():
    negative = torch.tensor([[3.0, 4.0]], requires_grad=True)
    SampledSoftmax()(torch.tensor([0.0]), negative, torch.tensor([[True, False]])).backward()
    assert negative.grad[0, 0] > 0.9
    assert negative.grad[0, 1] == 0.0
