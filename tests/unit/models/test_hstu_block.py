"""HSTU's block by hand."""

import pytest
import torch

from roomrec.models.attention import Scope, causal_mask
from roomrec.models.hstu_block import HstuBlock, time_buckets
from tests.blocks import BLOCKS, gradients_hold


def block() -> HstuBlock:
    """A block that passes values through: queries and keys are zero, so biases alone decide the weights."""
    hstu = HstuBlock(embedding_dim=2, max_sequence_length=4, dropout_rate=0.0, num_heads=1)
    with torch.no_grad():
        hstu.gate_query.weight.zero_()
        hstu.gate_query.weight[:2] = 10.0 * torch.eye(2)  # the gate
        hstu.key_value.weight.zero_()
        hstu.key_value.weight[2:] = 10.0 * torch.eye(2)  # values
        hstu.out.weight.copy_(torch.eye(2))
        hstu.out.bias.zero_()
        hstu.mixed_norm = torch.nn.Identity()
    return hstu


def test_weights_are_silu_of_the_biases_over_the_longest_length():
    hstu = block()
    with torch.no_grad():
        hstu.distance_bias.weight[1] = 2.0
        hstu.time_bias.weight[4] = 3.0  # 8 to 15 seconds
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])  # normalised: (1, -1) and (-1, 1)
    added = hstu(x, Scope(None, torch.tensor([[10, 0]]))) - x
    # The first event sees itself with weight silu(0) / 4 = 0: nothing is added.
    torch.testing.assert_close(added[0, 0], torch.zeros(2))
    # The second sees the first with silu(2 + 3) / 4 = 1.2416; value and gate of an entry are silu(10) = 9.9995 or
    # silu(-10) = -.0005, so (9.9995 * -.0005, -.0005 * 9.9995) * 1.2416 is added.
    torch.testing.assert_close(added[0, 1], torch.tensor([-0.0056, -0.0056]), atol=2e-4, rtol=0)


def test_numbers_of_all_parts_by_hand():
    hstu = HstuBlock(embedding_dim=2, max_sequence_length=4, dropout_rate=0.0, num_heads=1).double()
    one, swapped = torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    with torch.no_grad():
        hstu.gate_query.weight.copy_(torch.cat([one, torch.diag(torch.tensor([-20.0, 20.0]))]))
        hstu.key_value.weight.copy_(torch.cat([20.0 * one, 20.0 * one]))
        hstu.out.weight.copy_(10.0 * swapped)
        hstu.out.bias.copy_(torch.tensor([100.0, 200.0]))
        hstu.distance_bias.weight[1] = -20.0
        hstu.time_bias.weight[0] = 40.0
        hstu.time_bias.weight[4] = -12.0  # 8 to 15 seconds
    # Half the difference d of the two numbers comes out as d / sqrt(d * d + 75 * 75), which tells sizes apart.
    hstu.norm.eps, hstu.mixed_norm.eps = 0.0, 5625.0
    x = torch.tensor([[[3.0, 1.0], [1.0, 5.0]]], dtype=torch.float64)  # normalised (1, -1) and (-1, 1)
    # SiLU leaves 20 as it is and makes -20 nothing: keys and values are (20, 0) and (0, 20), queries nothing and
    # (20, 20). Weights: of the first on itself 40 / 4; of the second on the first (400 - 20 - 12) / 4 = 92, on itself
    # (400 + 40) / 4 = 110. Mixed: (200, 0) and (1840, 2200), d 100 and -180, normalised .8 and -12/13. SiLU is .731059
    # at 1 and -.268941 at -1, so gates leave (.584847, .215153) and (.248253, .674823); swapped, ten times, moved.
    expected = torch.tensor([[[105.15153, 206.84847], [107.74823, 207.48253]]], dtype=torch.float64)
    scope = Scope(None, torch.tensor([[10, 0]]))
    torch.testing.assert_close(hstu(x, scope), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(hstu(x, scope, newest_only=True), expected[:, 1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_gradients_against_finite_differences(padded, newest_only):
    made = BLOCKS["hstu"](embedding_dim=4, max_sequence_length=3, dropout_rate=0.0)
    assert gradients_hold(made, padded=padded, newest_only=newest_only)


@pytest.mark.parametrize("newest_only", [True, False])
def test_a_mask_says_the_same_as_causal(newest_only):
    torch.manual_seed(0)
    hstu = HstuBlock(embedding_dim=4, max_sequence_length=6, dropout_rate=0.0, num_heads=2)
    x, age = torch.randn(2, 5, 4), torch.tensor([[50, 40, 30, 9, 0]] * 2)
    masked = hstu(x, Scope(causal_mask(torch.ones(2, 5, dtype=torch.bool)), age), newest_only=newest_only)
    torch.testing.assert_close(masked, hstu(x, Scope(None, age), newest_only=newest_only))


def test_time_buckets_are_powers_of_two():
    seconds = torch.tensor([0, 1, 2, 3, 4, 7, 8, 2**31, 2**31 - 1, 2**50])
    assert time_buckets(seconds).tolist() == [0, 1, 2, 2, 3, 3, 4, 32, 31, 33]


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="embedding_dim 10 must be a multiple of num_heads 4"):
        HstuBlock(embedding_dim=10, max_sequence_length=4, dropout_rate=0.0, num_heads=4)
