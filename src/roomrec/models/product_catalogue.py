"""Vectors of products in a history: by id, or by everything the item encoder knows of them.

Legend: V products, W places of a bag, D embedding.
"""

import copy

import torch
from torch import Tensor, nn

from roomrec.batches.batch import ItemBatch
from roomrec.features.spec import FeatureSpec
from roomrec.models.embeddings import ItemEncoder

_AT_ONCE = 8192


class ProductCatalogue(nn.Module):
    """Gives a product in a history the vector that it has as an item, side features included.

    The features of each known product stand in buffers and are saved with the weights, so a model that is loaded
    needs no dataset. In a batch each distinct product is encoded once.

    Args:
        item_encoder: Encodes products; shared with the item side.
        spec: Number of products and lengths of the bags.
    """

    category: Tensor
    title: Tensor
    price_band: Tensor
    attributes: Tensor

    def __init__(self, *, item_encoder: ItemEncoder, spec: FeatureSpec) -> None:
        super().__init__()
        self.item_encoder = item_encoder
        widths = {"category": (), "title": (spec.title_length,), "price_band": (), "attributes": (spec.max_attributes,)}
        known = set(item_encoder.embeddings.tables)
        self._described = [name for name in widths if name in known]
        for name, width in widths.items():
            num_rows = spec.num_products if name in known else 0
            self.register_buffer(name, torch.zeros(num_rows, *width, dtype=torch.int32))

    def describe(self, products: ItemBatch) -> None:
        """Set the features of all V known products, in the order of their indices.

        Raises:
            ValueError: If there are more or fewer than the spec says.
        """
        for name in self._described:
            buffer: Tensor = getattr(self, name)
            features: Tensor = getattr(products, name)
            if len(features) != len(buffer):
                raise ValueError(f"products has {len(features)} rows of {name}, the spec {len(buffer)} products")
            if buffer.dim() == 2:
                buffer[:, : features.shape[1]].copy_(features)
            else:
                buffer.copy_(features)

    def forward(self, product_index: Tensor) -> Tensor:
        """Return the vectors of products, ``[..., D]``."""
        distinct, place = torch.unique(product_index, return_inverse=True)
        vectors: Tensor = self.encode(distinct)[place]
        return vectors

    def encode(self, product_V: Tensor) -> Tensor:
        """Encode products, ``[V, D]``."""
        nothing_V = torch.zeros_like(product_V)
        features = {}
        for name in ("category", "title", "price_band", "attributes"):
            buffer: Tensor = getattr(self, name)
            if name in self._described:
                features[name] = buffer[product_V].long()
            else:
                features[name] = nothing_V if buffer.dim() == 1 else nothing_V[:, None]
        vectors: Tensor = self.item_encoder(nothing_V, product_V[:, None], **features)
        return vectors


def with_looked_up_products(encoder: nn.Module) -> nn.Module:
    """Return a user encoder in which products are looked up instead of encoded, for export; the same numbers.

    Args:
        encoder: Any user encoder; one without a catalogue is returned as it is.
    """
    catalogues = {name for name, module in encoder.named_modules() if isinstance(module, ProductCatalogue)}
    if not catalogues:
        return encoder
    copied = copy.deepcopy(encoder)
    for name in catalogues:
        catalogue = copied.get_submodule(name).eval()
        assert isinstance(catalogue, ProductCatalogue)
        num_products = catalogue.item_encoder.embeddings.tables["product"].get_parameter("weight").shape[0]
        device = next(encoder.parameters()).device
        with torch.no_grad():
            parts = torch.split(torch.arange(num_products, device=device), _AT_ONCE)
            vectors = torch.cat([catalogue.encode(part) for part in parts])
        copied.set_submodule(name, nn.Embedding(len(vectors), vectors.shape[1], _weight=vectors, _freeze=True))
    return copied
