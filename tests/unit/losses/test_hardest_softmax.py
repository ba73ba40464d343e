"""Softmax among the hardest negatives."""

import pytest
import torch

from roomrec.losses.hardest_softmax import HardestSoftmax
from roomrec.losses.softmax import Softmax
from tests.unit.losses.one_user import loss_of, random_batch


def test_only_the_highest_real_negatives_count():
    # Logits 0 | 1, 2, 9 (not real), -5: the two hardest are 2 and 1, so log(1 + e + e^2).
    loss = loss_of(HardestSoftmax(num_hardest=2), [0.0], [[1.0, 2.0, 9.0, -5.0]], [[True, True, False, True]])
    assert loss.item() == pytest.approx(2.407606, abs=1e-5)


def test_a_positive_without_negatives_costs_nothing():
    assert loss_of(HardestSoftmax(num_hardest=3), [0.5], [[1.0]], [[False]]).item() == 0.0


@pytest.mark.parametrize("shared", [True, False])
def test_all_negatives_are_the_plain_softmax(shared):
    users, items, batch = random_batch(shared=shared)
    torch.testing.assert_close(HardestSoftmax(num_hardest=9)(users, items, batch), Softmax()(users, items, batch))


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_against_finite_differences(shared):
    users, items, batch = random_batch(shared=shared)
    loss = HardestSoftmax(num_hardest=2)
    assert torch.autograd.gradcheck(lambda u, i: loss(u, i, batch), (users, items))


def test_none_is_refused():
    with pytest.raises(ValueError, match="num_hardest must be at least 1, received 0"):
        HardestSoftmax(num_hardest=0)
