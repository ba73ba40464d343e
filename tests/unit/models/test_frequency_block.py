"""The causal filter by hand."""

import math

import pytest
import torch

from roomrec.models.attention import Scope, causal_mask
from roomrec.models.frequency_block import FrequencyBlock
from tests.blocks import BLOCKS, gradients_hold

X = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])  # normalised: (1, -1), (-1, 1), (1, -1)
AGE = torch.zeros(1, 3, dtype=torch.long)


def block(**changes) -> FrequencyBlock:
    """A filter alone: no attention, no feed-forward."""
    sizes = {"embedding_dim": 2, "max_sequence_length": 3, "dropout_rate": 0.0, "num_heads": 1, "hidden_dim": 2}
    made = FrequencyBlock(**(sizes | {"filter_share": 1.0} | changes))
    torch.nn.init.zeros_(made.feed_forward.narrow.weight)
    torch.nn.init.zeros_(made.feed_forward.narrow.bias)
    return made


def test_at_first_slow_and_fast_add_up_to_the_event():
    added = block()(X, Scope(None, AGE)) - X
    torch.testing.assert_close(added, torch.tensor([[[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]]]), atol=1e-4, rtol=0)


def test_the_slow_part_is_the_mean_of_what_was_so_far():
    made = block()
    torch.nn.init.zeros_(made.fast_scale)
    added = made(X, Scope(None, AGE)) - X
    third = 1 / 3
    torch.testing.assert_close(added, torch.tensor([[[1.0, -1.0], [0.0, 0.0], [third, -third]]]), atol=1e-4, rtol=0)


def test_distances_are_weighed():
    made = block()
    torch.nn.init.zeros_(made.fast_scale)
    with torch.no_grad():
        made.distance_logit[0] = torch.tensor([0.0, 2.0, -100.0]).log().nan_to_num(nan=-100.0)
        made.distance_logit[0, 0] = 0.0
    # Of the newest event: itself once, the one before it twice, the oldest not at all: (1 - 2) / 3.
    added = made(X, Scope(None, AGE), newest_only=True) - X[:, -1:]
    torch.testing.assert_close(added, torch.tensor([[[-1 / 3, 1 / 3]]]), atol=1e-4, rtol=0)


def test_numbers_of_all_parts_by_hand():
    made = block(filter_share=0.6).double()
    with torch.no_grad():
        made.distance_logit.copy_(torch.tensor([[0.0, math.log(3), 0.0]]))
        made.fast_scale.copy_(torch.tensor([2.0, 3.0]))
        for weight in (made.attention.query.bias, made.attention.key_value.bias, made.attention.out.bias):
            weight.zero_()
        made.attention.query.weight.copy_(math.sqrt(2) * math.log(3) / 4 * torch.eye(2))
        made.attention.key_value.weight.copy_(torch.eye(2).repeat(2, 1))
        made.attention.out.weight.copy_(torch.eye(2))
        made.feed_forward.widen.weight.copy_(torch.eye(2))
        made.feed_forward.widen.bias.zero_()
        made.feed_forward.narrow.weight.copy_(torch.diag(torch.tensor([10.0, 100.0])))
    made.attention_norm.eps = made.feed_forward_norm.eps = 0.0
    x = torch.tensor([[[3.0, 1.0], [1.0, 5.0]]], dtype=torch.float64)  # normalised (1, -1) and (-1, 1)
    # Slow: (1, -1), and 3/4 (1, -1) + 1/4 (-1, 1) = (.5, -.5). Fast: nothing, and (4 * -1.5, 9 * 1.5). Seen: (1, -1),
    # and (-.5, .5). Mixed: (1, -1), and .6 (-5.5, 13) + .4 (-.5, .5) = (-3.5, 8). So (4, 0) and (-2.5, 13), normalised
    # (1, -1) and (-1, 1); GELU is .841345 at 1 and -.158655 at -1.
    expected = torch.tensor([[[4 + 8.41345, -15.8655], [-2.5 - 1.58655, 13 + 84.1345]]], dtype=torch.float64)
    scope = Scope(None, AGE[:, :2])
    torch.testing.assert_close(made(x, scope), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(made(x, scope, newest_only=True), expected[:, 1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_gradients_against_finite_differences(padded, newest_only):
    made = BLOCKS["frequency"](embedding_dim=4, max_sequence_length=3, dropout_rate=0.0)
    assert gradients_hold(made, padded=padded, newest_only=newest_only)


@pytest.mark.parametrize("newest_only", [True, False])
def test_a_mask_says_the_same_as_causal(newest_only):
    torch.manual_seed(0)
    made = FrequencyBlock(
        embedding_dim=4, max_sequence_length=6, dropout_rate=0.0, num_heads=2, hidden_dim=8, filter_share=0.5
    )
    torch.nn.init.normal_(made.distance_logit)
    x, age = torch.randn(2, 5, 4), torch.zeros(2, 5, dtype=torch.long)
    masked = made(x, Scope(causal_mask(torch.ones(2, 5, dtype=torch.bool)), age), newest_only=newest_only)
    torch.testing.assert_close(masked, made(x, Scope(None, age), newest_only=newest_only))


def test_the_share_is_a_share():
    with pytest.raises(ValueError, match=r"filter_share must be from 0 to 1, received 1\.5"):
        block(filter_share=1.5)
