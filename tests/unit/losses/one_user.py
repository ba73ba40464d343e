"""Logits as vectors, so that losses can be checked by hand: one user per positive, an embedding of one number."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from roomrec.batches.batch import CandidateBatch


def loss_of(
    loss: nn.Module,
    positive: Sequence[float],
    negative: Sequence[Sequence[float]],
    real: Sequence[Sequence[bool]],
    *,
    sampling_rate: float = 0.5,
) -> Tensor:
    """Return the loss of logits: users are ``[1.0]``, so an item's vector is its logit."""
    own, others = torch.tensor(positive), torch.tensor(negative)
    items = torch.cat([own, others.flatten()])[:, None]
    places = torch.arange(others.numel()).reshape(others.shape) + len(own)
    batch = CandidateBatch(
        torch.arange(len(own)),
        places,
        torch.tensor(real),
        torch.zeros(len(own)),
        torch.zeros(others.shape),
        sampling_rate,
    )
    value: Tensor = loss(torch.ones(len(own), 1), items, batch)
    return value


def random_batch(*, shared: bool, num_users: int = 5, num_items: int = 9, seed: int = 0) -> tuple[Tensor, ...]:
    """Return random float64 users ``[P, 3]``, items ``[C, 3]``, and a batch with negatives that do not count."""
    generator = torch.Generator().manual_seed(seed)
    users = torch.randn(num_users, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    items = torch.randn(num_items, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    shape = (4,) if shared else (num_users, 4)
    batch = CandidateBatch(
        torch.randint(num_items, (num_users,), generator=generator),
        torch.randint(num_items, shape, generator=generator),
        torch.rand(num_users, 4, generator=generator) < 0.7,
        torch.randn(num_users, generator=generator),
        torch.randn(shape, generator=generator),
        0.5,
    )
    return users, items, batch
