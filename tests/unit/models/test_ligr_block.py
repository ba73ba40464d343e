"""eSASRec's block by hand."""

import math

import pytest
import torch

from roomrec.models.attention import Scope
from roomrec.models.ligr_block import LigrBlock
from tests.blocks import BLOCKS, gradients_hold

LOG_3 = math.log(3.0)  # whose sigmoid is 3/4; that of n LOG_3 is 3^n / (3^n + 1)


def test_numbers_by_hand():
    made = LigrBlock(embedding_dim=2, max_sequence_length=2, dropout_rate=0.0, num_heads=1, hidden_dim=2).double()
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
        made.attention_norm.weight.fill_(1.0)
        made.feed_forward_norm.weight.fill_(1.0)
        made.attention.query.weight.copy_(math.sqrt(2) * LOG_3 / 4 * torch.eye(2))
        made.attention.key_value.weight.copy_(torch.eye(2).repeat(2, 1))
        made.attention.out.weight.copy_(torch.eye(2))
        made.attention_gate.weight.copy_(torch.tensor([[LOG_3, 0.0], [0.0, 0.0]]))
        made.feed_forward.widen.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]]))
        made.feed_forward.narrow.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        made.feed_forward_gate.weight.copy_(torch.tensor([[0.0, 4 * LOG_3], [0.0, 0.0]]))
        made.feed_forward_gate.bias.copy_(torch.tensor([0.0, -LOG_3]))
    made.attention_norm.eps = made.feed_forward_norm.eps = 0.0
    x = torch.tensor([[[3.0, 1.0], [1.0, 5.0]]], dtype=torch.float64)  # normalised (1, -1) and (-1, 1)
    # They see (1, -1) and (1, -1) / 4 + 3 (-1, 1) / 4 = (-.5, .5), through gates (27/28, 1/2) and (3/4, 1/2):
    # (3.964286, .5) and (.625, 5.25), normalised (1, -1) and (-1, 1). SiLU is .731059 at 1 and -.268941 at -1, so
    # SwiGLU has (1.462117, .806824) and (.537883, 2.193176), which are swapped and pass (9/10, 1/4) and (1, 1/4).
    expected = torch.tensor([[[4.690427, 0.865529], [2.818176, 5.384471]]], dtype=torch.float64)
    scope = Scope(None, torch.zeros(1, 2, dtype=torch.long))
    torch.testing.assert_close(made(x, scope), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(made(x, scope, newest_only=True), expected[:, 1:], atol=2e-6, rtol=0)


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_gradients_against_finite_differences(padded, newest_only):
    made = BLOCKS["ligr"](embedding_dim=4, max_sequence_length=3, dropout_rate=0.0)
    assert gradients_hold(made, padded=padded, newest_only=newest_only)
