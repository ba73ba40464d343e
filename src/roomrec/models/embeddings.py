"""Tables that the user side and the item side share, and the item encoder made of them.

Legend: B batch, L sequence, C items, W places of a bag, D embedding.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from roomrec.features.spec import FeatureSpec
from roomrec.ids import FIRST_INDEX, OOV_INDEX, PAD_INDEX

_INIT_STD = 0.02


class SharedEmbeddings(nn.Module):
    """One table for each feature the log has; a feature it does not have adds nothing.

    The row of ``PAD_INDEX`` is zero and stays zero. The row of ``OOV_INDEX`` begins at zero: an unknown id is
    described by the other features alone until training has shown it what unknown ids are like.

    Args:
        spec: Cardinalities; 0 makes no table.
        embedding_dim: D.
        id_dropout_rate: In training, the share of streamer and product ids replaced by ``OOV_INDEX``, so that new
            ones get a sensible vector. Only where the log has side features: without them nothing could be learned.
    """

    def __init__(self, *, spec: FeatureSpec, embedding_dim: int, id_dropout_rate: float) -> None:
        super().__init__()
        cardinalities = {
            "streamer": spec.num_streamers,
            "product": spec.num_products,
            "category": spec.num_categories,
            "title": spec.num_title_tokens,
            "price_band": spec.num_price_bands,
            "attributes": spec.num_attributes,
        }
        self.tables = nn.ModuleDict(
            {name: make_table(size, embedding_dim) for name, size in cardinalities.items() if size > 0}
        )
        self.id_dropout_rate = id_dropout_rate if spec.has_side_features else 0.0

    def look_up(self, name: str, index: Tensor) -> Tensor:
        """Return the rows of a table, ``[..., D]``."""
        table: Tensor = self.tables[name](index)
        return table

    def drop_ids(self, index: Tensor) -> Tensor:
        """In training replace some real ids by ``OOV_INDEX``."""
        if not self.training or self.id_dropout_rate == 0.0:
            return index
        dropped = (torch.rand(index.shape, device=index.device) < self.id_dropout_rate) & (index >= FIRST_INDEX)
        return index.masked_fill(dropped, OOV_INDEX)


class ItemEncoder(nn.Module):
    """Adds up what is known of an item: streamer, products, category, title, price, attributes.

    Args:
        embeddings: The shared tables.
    """

    def __init__(self, *, embeddings: SharedEmbeddings) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(
        self,
        streamer: Tensor,
        product: Tensor,
        category: Tensor,
        title: Tensor,
        price_band: Tensor,
        attributes: Tensor,
    ) -> Tensor:
        """Encode items.

        Args:
            streamer: ``[C]``.
            product: ``[C, W]`` padded on the right.
            category: ``[C]``.
            title: ``[C, W]`` padded on the right.
            price_band: ``[C]``.
            attributes: ``[C, W]`` padded on the right.

        Returns:
            Item vectors ``[C, D]``.
        """
        single = {"streamer": streamer, "category": category, "price_band": price_band}
        bags = {"product": product, "title": title, "attributes": attributes}
        tables = self.embeddings.tables
        parts = [
            self.embeddings.look_up(name, self.embeddings.drop_ids(index) if name == "streamer" else index)
            for name, index in single.items()
            if name in tables
        ]
        parts += [
            mean_of_bag(self.embeddings.tables[name], self.embeddings.drop_ids(index) if name == "product" else index)
            for name, index in bags.items()
            if name in tables
        ]
        return torch.stack(parts).sum(dim=0)


def make_table(num_rows: int, embedding_dim: int) -> nn.Embedding:
    """Return a table ``[num_rows, D]`` whose PAD and OOV rows are zero; its ``init_rows`` says how rows begin."""
    table = nn.Embedding(num_rows, embedding_dim, padding_idx=PAD_INDEX)
    init_rows(table.weight)
    table.init_rows = init_rows  # type: ignore[assignment]  # for tables that are split over processes
    return table


def init_rows(weight: Tensor) -> None:
    """Begin a table ``[V, D]`` with small random rows; PAD and OOV with zero."""
    with torch.no_grad():
        weight.normal_(std=_INIT_STD)
        weight[:FIRST_INDEX] = 0.0


def mean_of_bag(table: nn.Module, bag_CW: Tensor) -> Tensor:
    """Average the real entries of each bag, ``[C, D]``; an empty bag gives zero.

    Args:
        table: An embedding whose PAD row is zero.
        bag_CW: Padded with ``PAD_INDEX``.
    """
    if bag_CW.shape[1] == 1:
        alone_CD: Tensor = table(bag_CW[:, 0])
        return alone_CD
    if torch.is_grad_enabled() and isinstance(table, nn.Embedding):
        # Never holds [C, W, D], forward or backward: over a whole catalogue four times as fast. Not for ONNX.
        weight: Tensor = table.get_parameter("weight")
        return F.embedding_bag(bag_CW, weight, mode="mean", padding_idx=PAD_INDEX)
    count_C1 = (bag_CW != PAD_INDEX).sum(dim=1, keepdim=True).clamp(min=1)
    total_CD: Tensor = table(bag_CW).sum(dim=1)
    return total_CD / count_C1
