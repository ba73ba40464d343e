"""The causal filter by hand."""

import pytest
import torch

from roomrec.models.attention import Scope, causal_mask
from roomrec.models.frequency_block import FrequencyBlock

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
