"""Dropout with cheap draws."""

import pytest
import torch

from roomrec.models.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_dropped_and_the_mean_kept(rate):
    torch.manual_seed(0)
    dropped = Dropout(rate)(torch.ones(400_000))
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.006)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.02)


def test_values_are_dropped_apart_from_each_other():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(100_000, 2)) > 0).float()
    # Two draws from one 64-bit number are independent: both kept a quarter of the time.
    assert (kept[:, 0] * kept[:, 1]).mean().item() == pytest.approx(0.25, abs=0.01)


def test_evaluation_and_rate_zero_change_nothing():
    x = torch.randn(3, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_odd_sizes_and_half_precision():
    x = torch.ones(3, 7, dtype=torch.bfloat16)
    assert Dropout(0.3)(x).dtype == torch.bfloat16
    assert Dropout(0.3)(x).shape == (3, 7)


def test_gradients_follow_what_was_kept():
    x = torch.ones(1000, requires_grad=True)
    dropped = Dropout(0.25)(x)
    dropped.sum().backward()
    torch.testing.assert_close(x.grad, dropped.detach())


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_make_no_sense(rate):
    with pytest.raises(ValueError, match="dropout_rate must be at least 0 and below 1"):
        Dropout(rate)
