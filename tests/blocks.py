"""Every block of the sequence family in a small size, and products it can be told of."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import torch
from torch import nn

from roomrec.batches.batch import ItemBatch
from roomrec.features.spec import FeatureSpec
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
