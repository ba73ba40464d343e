"""Binary cross-entropy by hand."""

import pytest
import torch

from roomrec.losses.binary_cross_entropy import BinaryCrossEntropy
from tests.unit.losses.one_user import loss_of, random_batch

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
    assert loss_of(BinaryCrossEntropy(), [positive], [negatives], [real]).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients(shared):
    users, items, batch = random_batch(shared=shared)
    assert torch.autograd.gradcheck(lambda u, i: BinaryCrossEntropy()(u, i, batch), (users, items))
