"""Who looks at whom."""

import pytest
import torch

from roomrec.models.attention import CausalSelfAttention, Scope, causal_mask


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
