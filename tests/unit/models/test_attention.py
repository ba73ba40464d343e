"""Who looks at whom, and what is seen."""

import math

import pytest
import torch

from roomrec.models.attention import CausalSelfAttention, Scope, causal_mask
from tests.blocks import gradients_hold

AGE = torch.zeros(1, 2, dtype=torch.long)


def attention_by_hand(*, num_heads: int, query_scale: float) -> CausalSelfAttention:
    """Keys are the events, values (8, 0) and (0, 4); what is seen is moved by (10, 20)."""
    attention = CausalSelfAttention(embedding_dim=2, num_heads=num_heads).double()
    with torch.no_grad():
        attention.query.weight.copy_(query_scale * torch.eye(2))
        attention.key_value.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [8.0, 0.0], [0.0, 4.0]]))
        attention.out.weight.copy_(torch.eye(2))
        attention.out.bias.copy_(torch.tensor([10.0, 20.0]))
        attention.query.bias.zero_()
        attention.key_value.bias.zero_()
    return attention


EVENTS = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)


def test_numbers_by_hand():
    # The second event's logits are 0 and log(3) after the division by the root of 2: it sees (8, 0) / 4 + 3 (0, 4) / 4.
    attention = attention_by_hand(num_heads=1, query_scale=math.sqrt(2) * math.log(3))
    seen = torch.tensor([[[18.0, 20.0], [12.0, 23.0]]], dtype=torch.float64)
    torch.testing.assert_close(attention(EVENTS, Scope(None, AGE)), seen)
    torch.testing.assert_close(attention(EVENTS, Scope(None, AGE), newest_only=True), seen[:, 1:])


def test_a_head_has_its_own_part_of_the_width():
    # The first head's logits are 0 and 0: half of 8. The second's are 0 and log(3): three quarters of 4.
    attention = attention_by_hand(num_heads=2, query_scale=math.log(3))
    seen = torch.tensor([[[18.0, 20.0], [14.0, 23.0]]], dtype=torch.float64)
    torch.testing.assert_close(attention(EVENTS, Scope(None, AGE)), seen)


def test_padding_is_not_seen():
    attention = attention_by_hand(num_heads=1, query_scale=math.sqrt(2) * math.log(3))
    scope = Scope(causal_mask(torch.tensor([[False, True]])), AGE)
    alone = torch.tensor([[[10.0, 24.0]]], dtype=torch.float64)
    torch.testing.assert_close(attention(EVENTS, scope)[:, 1:], alone)
    torch.testing.assert_close(attention(EVENTS, scope, newest_only=True), alone)


@pytest.mark.parametrize("newest_only", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_gradients_against_finite_differences(padded, newest_only):
    assert gradients_hold(CausalSelfAttention(embedding_dim=4, num_heads=2), padded=padded, newest_only=newest_only)


def test_padding_is_looked_at_by_nobody_but_itself():
    mask = causal_mask(torch.tensor([[False, False, True, True], [True, True, True, True]]))
    assert mask.shape == (2, 1, 4, 4)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert mask[1, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_the_future_changes_nothing():
    torch.manual_seed(0)
    attention = CausalSelfAttention(embedding_dim=8, num_heads=2)
    x = torch.randn(1, 5, 8)
    changed = x.clone()
    changed[:, 3:] = 9.0
    mask = causal_mask(torch.ones(1, 5, dtype=torch.bool))
    for may_attend in (mask, None):
        scope = Scope(may_attend, torch.zeros(1, 5, dtype=torch.long))
        before, after = attention(x, scope), attention(changed, scope)
        torch.testing.assert_close(before[:, :3], after[:, :3])
        assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="embedding_dim 10 must be a multiple of num_heads 4"):
        CausalSelfAttention(embedding_dim=10, num_heads=4)
