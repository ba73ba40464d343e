"""Every block of the sequence family in a small size, and products it can be told of."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from roomrec.batches.batch import ItemBatch
from roomrec.features.spec import FeatureSpec
from roomrec.models.attention import Scope, causal_mask
from roomrec.models.frequency_block import FrequencyBlock
from roomrec.models.hstu_block import HstuBlock
from roomrec.models.ligr_block import LigrBlock
from roomrec.models.transformer_block import TransformerBlock

BLOCKS: Final[Mapping[str, Callable[..., nn.Module]]] = {
    "pre_norm": partial(TransformerBlock, num_heads=2, hidden_dim=16, norm_first=True),
    "post_norm": partial(TransformerBlock, num_heads=2, hidden_dim=16, norm_first=False),
    "ligr": partial(LigrBlock, num_heads=2, hidden_dim=16),
    "frequency": partial(FrequencyBlock, num_heads=2, hidden_dim=16, filter_share=0.7),
    "hstu": partial(HstuBlock, num_heads=2),
}


def gradients_hold(block: nn.Module, *, padded: bool, newest_only: bool) -> bool:
    """Compare the gradients of a block of width 4 by events and by every weight with finite differences.

    Args:
        block: Without dropout; its weights are drawn anew, so that none is zero.
        padded: Let the first of three events be padding, as at serving; else all are real and need no mask.
        newest_only: Ask for the last place alone.
    """
    generator = torch.Generator().manual_seed(5)
    real_BL = torch.tensor([[not padded, True, True]])
    scope = Scope(causal_mask(real_BL) if padded else None, torch.tensor([[70, 9, 0]]))
    names, weights = zip(*block.double().named_parameters(), strict=True)
    drawn = [torch.randn(weight.shape, generator=generator, dtype=torch.float64) for weight in weights]
    x_BLD = torch.randn(1, 3, 4, generator=generator, dtype=torch.float64)

    def transform(x_BLD: Tensor, *values: Tensor) -> Tensor:
        changed: Tensor = functional_call(
            block, dict(zip(names, values, strict=True)), (x_BLD, scope), {"newest_only": newest_only}
        )
        return changed

    return torch.autograd.gradcheck(transform, [value.requires_grad_() for value in (x_BLD, *drawn)])


def random_products(spec: FeatureSpec) -> ItemBatch:
    """Return features of all products of a spec, as the item encoder takes them."""
    generator = torch.Generator().manual_seed(3)
    number = spec.num_products

    def indices(cardinality: int, *width: int) -> torch.Tensor:
        return torch.randint(max(cardinality, 1), (number, *width), generator=generator)

    return ItemBatch(
        streamer=torch.zeros(number, dtype=torch.int64),
        product=torch.arange(number)[:, None],
        category=indices(spec.num_categories),
        title=indices(spec.num_title_tokens, spec.title_length),
        price_band=indices(spec.num_price_bands),
        attributes=indices(spec.num_attributes, spec.max_attributes),
    )
