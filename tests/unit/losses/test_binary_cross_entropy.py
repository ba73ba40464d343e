"""Binary cross-entropy by hand."""

import pytest
import torch

from roomrec.losses.binary_cross_entropy import BinaryCrossEntropy

LOGITS = [
    # positive, negatives, real, loss
    (0.0, [0.0], [True], 1.3863),
    (0.0, [0.0, 0.0], [True, True], 1.3863),
    (2.0, [-1.0, 1.0], [True, True], 0.1269 + (0.3133 + 1.3133) / 2),
    (2.0, [-1.0, 99.0], [True, False], 0.1269 + 0.3133),
    (2.0, [5.0], [False], 0.1269),
]


@pytest.mark.parametrize(("positive", "negatives", "real", "expected"), LOGITS)
def test_one_positive(positive, negatives, real, expected):
    loss = BinaryCrossEntropy()(torch.tensor([positive]), torch.tensor([negatives]), torch.tensor([real]))
    assert loss.item() == pytest.approx(expected, abs=1e-4)


def test_gradients():
    positive = torch.randn(3, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    real = torch.tensor([[True, True], [False, True], [False, False]])
    # The loss computes in float32, so the check is coarse.
    assert torch.autograd.gradcheck(
        lambda one, many: BinaryCrossEntropy()(one, many, real), (positive, negative), eps=1e-2, atol=1e-2, rtol=1e-2
    )
