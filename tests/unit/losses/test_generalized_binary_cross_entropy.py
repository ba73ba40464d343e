"""Generalised binary cross-entropy by hand."""

import pytest
import torch

from roomrec.losses.generalized_binary_cross_entropy import GeneralizedBinaryCrossEntropy
from tests.unit.losses.one_user import loss_of, random_batch

LOGITS = [
    # calibration, sampling rate, loss of positive 2.0 and negatives -1.0 and 1.0 (softplus .1269, .3133, 1.3133)
    (0.0, 0.1, (0.1269 + 0.3133 + 1.3133) / 3),  # beta 1
    (1.0, 0.1, (0.1 * 0.1269 + 0.3133 + 1.3133) / 3),  # beta is the rate
    (0.5, 0.1, (0.55 * 0.1269 + 0.3133 + 1.3133) / 3),  # half way
    (0.75, 1.0, (0.1269 + 0.3133 + 1.3133) / 3),  # everything drawn: nothing to undo
]


@pytest.mark.parametrize(("calibration", "rate", "expected"), LOGITS)
def test_one_positive(calibration, rate, expected):
    loss = GeneralizedBinaryCrossEntropy(calibration=calibration)
    value = loss_of(loss, [2.0], [[-1.0, 1.0]], [[True, True]], sampling_rate=rate)
    assert value.item() == pytest.approx(expected, abs=1e-4)


def test_what_does_not_count_is_left_out_of_the_mean():
    loss = GeneralizedBinaryCrossEntropy(calibration=0.0)
    assert loss_of(loss, [2.0], [[-1.0, 9.0]], [[True, False]]).item() == pytest.approx((0.1269 + 0.3133) / 2, abs=1e-4)


def test_calibration_is_a_share():
    with pytest.raises(ValueError, match=r"calibration must be from 0 to 1, received 1\.5"):
        GeneralizedBinaryCrossEntropy(calibration=1.5)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients(shared):
    users, items, batch = random_batch(shared=shared)
    loss = GeneralizedBinaryCrossEntropy(calibration=0.75)
    assert torch.autograd.gradcheck(lambda u, i: loss(u, i, batch), (users, items))
