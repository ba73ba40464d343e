"""SASRec's block by hand."""

import math

import pytest
import torch

from roomrec.models.attention import Scope
from roomrec.models.transformer_block import TransformerBlock
from tests.blocks import BLOCKS, gradients_hold

AGE = torch.zeros(1, 2, dtype=torch.long)


def block(*, norm_first: bool) -> TransformerBlock:
    """Queries ask for nothing, values are the events; the feed-forward is GELU times 10 and 100."""
    made = TransformerBlock(
        embedding_dim=2, max_sequence_length=2, dropout_rate=0.0, num_heads=1, hidden_dim=2, norm_first=norm_first
    ).double()
    with torch.no_grad():
        for weight in (made.attention.query.weight, made.attention.query.bias, made.attention.key_value.bias):
            weight.zero_()
        made.attention.key_value.weight.copy_(torch.eye(2).repeat(2, 1))
        made.attention.out.weight.copy_(torch.eye(2))
        made.attention.out.bias.zero_()
        made.feed_forward.widen.weight.copy_(torch.eye(2))
        made.feed_forward.widen.bias.zero_()
        made.feed_forward.narrow.weight.copy_(torch.diag(torch.tensor([10.0, 100.0])))
        made.feed_forward.narrow.bias.zero_()
    made.attention_norm.eps = made.feed_forward_norm.eps = 0.0
    return made


def test_numbers_by_hand_normalised_before():
    made = block(norm_first=True)
    with torch.no_grad():
        made.attention.query.weight.copy_(math.sqrt(2) * math.log(3) / 4 * torch.eye(2))
    x = torch.tensor([[[3.0, 1.0], [1.0, 5.0]]], dtype=torch.float64)  # normalised (1, -1) and (-1, 1)
    # The second event's logits are -log(3) / 2 and log(3) / 2: it sees (1, -1) / 4 + 3 (-1, 1) / 4 = (-.5, .5).
    # So (4, 0) and (.5, 5.5), normalised (1, -1) and (-1, 1); GELU is .841345 at 1 and -.158655 at -1.
    expected = torch.tensor([[[4 + 8.41345, -15.8655], [0.5 - 1.58655, 5.5 + 84.1345]]], dtype=torch.float64)
    torch.testing.assert_close(made(x, Scope(None, AGE)), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(made(x, Scope(None, AGE), newest_only=True), expected[:, 1:], atol=1e-4, rtol=0)


def test_numbers_by_hand_normalised_after():
    made = block(norm_first=False)
    # With these, half the difference d of the two numbers comes out as d / sqrt(d * d + eps), which tells sizes apart.
    made.attention_norm.eps, made.feed_forward_norm.eps = 144.0, 9.0
    with torch.no_grad():
        made.feed_forward_norm.weight.copy_(torch.tensor([2.0, 3.0]))
        made.feed_forward_norm.bias.copy_(torch.tensor([10.0, 20.0]))
    x = torch.tensor([[[16.0, 0.0], [-6.0, 6.0]]], dtype=torch.float64)
    # Events and what they see, (16, 0) and the mean (5, 3), are (32, 0) and (-1, 9): d is 16 and -5, normalised .8 and
    # -5 / 13. GELU: .630516 at .8, -.169484 at -.8; -.134782 at -5 / 13, .249834 at 5 / 13. With it (7.10516, -17.7484)
    # and (-1.732435, 25.368015): d is 12.42678 and -13.550225, normalised .972072 and -.976359.
    expected = torch.tensor([[[11.944144, 17.083784], [8.047282, 22.929077]]], dtype=torch.float64)
    torch.testing.assert_close(made(x, Scope(None, AGE)), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(made(x, Scope(None, AGE), newest_only=True), expected[:, 1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("norm", ["pre_norm", "post_norm"])
def test_gradients_against_finite_differences(norm, padded, newest_only):
    made = BLOCKS[norm](embedding_dim=4, max_sequence_length=3, dropout_rate=0.0)
    assert gradients_hold(made, padded=padded, newest_only=newest_only)
