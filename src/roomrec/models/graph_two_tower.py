"""Two towers whose tables are smoothed along the graph of who took what; what is served is three plain tables.

Legend: B users, C items, L history, W places of a bag, U all users, V all products, D embedding.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from roomrec.batches.batch import TwoTowerBatch
from roomrec.features.spec import FeatureSpec
from roomrec.ids import FIRST_INDEX, OOV_INDEX
from roomrec.models.graph import InteractionGraph, inverse_root


class GraphUserEncoder(nn.Module):
    """A user's own vector plus the sum of what the history's products say, over the root of their number.

    This is exactly the vector that smoothing gives, since a user's neighbours are his history. An event after training
    counts at once, and a user unknown to training has a vector from his first event on.

    Args:
        own: Users' own vectors ``[U, D]``.
        told: What each product says of those who took it, ``[V, D]``.
    """

    def __init__(self, *, own: Tensor, told: Tensor) -> None:
        super().__init__()
        self.own = nn.Parameter(own, requires_grad=False)
        self.told = nn.Parameter(told, requires_grad=False)

    def forward(
        self,
        event_type: Tensor,
        streamer_index: Tensor,
        product_index: Tensor,
        time_gap_bucket: Tensor,
        watch_time_bucket: Tensor,
        age_s: Tensor,
        user_index: Tensor,
    ) -> Tensor:
        """Encode users, ``product_index`` ``[B, L]``, ``user_index`` ``[B]``; return unit vectors ``[B, D]``."""
        known_BL1 = (product_index >= FIRST_INDEX)[..., None]
        history_BD = (F.embedding(product_index, self.told) * known_BL1).sum(dim=1)
        return F.normalize(F.embedding(user_index, self.own) + history_BD * inverse_root(known_BL1.sum(dim=1)[:, 0]))


class GraphItemEncoder(nn.Module):
    """The mean of an item's products.

    Args:
        product: Products' vectors ``[V, D]``; those of PAD and OOV are zero.
    """

    def __init__(self, *, product: Tensor) -> None:
        super().__init__()
        self.product = nn.Parameter(product, requires_grad=False)

    def forward(
        self,
        streamer: Tensor,
        product: Tensor,
        category: Tensor,
        title: Tensor,
        price_band: Tensor,
        attributes: Tensor,
    ) -> Tensor:
        """Encode items, ``product`` ``[C, W]`` padded on the right; return unit vectors ``[C, D]``."""
        known_CW1 = (product >= FIRST_INDEX)[..., None]
        return F.normalize((F.embedding(product, self.product) * known_CW1).sum(dim=1))


class GraphTwoTower(nn.Module):
    """Users and products have vectors of their own, smoothed in training along the edges of the training log.

    Layer by layer a user becomes the sum of his products and a product the sum of its users, each over the roots of
    both numbers of edges; a vector is the mean of its layers. Since layers are linear, all that the graph adds to a
    user lies in his history, so the trained model folds into three tables and needs no graph where it is served.

    Side features are not used: a product that training has not seen has no vector.

    Args:
        spec: Cardinalities of the features; the log needs products.
        embedding_dim: D.
        max_sequence_length: L, the newest events that count at the dense door. Training smooths over all.
        num_layers: How far smoothing goes; 0 leaves plain matrix factorisation.
        temperature: Cosines are divided by it in training.

    Raises:
        ValueError: If the log has no products, a number of layers is negative or the temperature not above 0.

    Reference:
        He et al. 2020 (LightGCN), with cosines and a softmax loss, as in Wu et al. 2022 (On the Effectiveness of
        Sampled Softmax Loss for Item Recommendation).
    """

    batch_type = TwoTowerBatch

    _own: Tensor
    _told: Tensor
    _product: Tensor

    def __init__(
        self, *, spec: FeatureSpec, embedding_dim: int, max_sequence_length: int, num_layers: int, temperature: float
    ) -> None:
        super().__init__()
        if spec.num_products <= FIRST_INDEX:
            raise ValueError("the log has no products to make a graph of: choose model=two_tower")
        if num_layers < 0:
            raise ValueError(f"num_layers must be at least 0, received {num_layers}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, received {temperature}")
        self.max_sequence_length = max_sequence_length
        self.embedding_dim = embedding_dim
        self.temperature = temperature
        self._num_layers = num_layers
        self._graph: InteractionGraph | None = None
        self.users = _make_table(max(spec.num_users, FIRST_INDEX), embedding_dim)
        self.products = _make_table(spec.num_products, embedding_dim)
        # What smoothing came to, saved with the weights, for those who load the model without a graph.
        self.register_buffer("_own", torch.zeros_like(self.users.weight))
        self.register_buffer("_told", torch.zeros_like(self.products.weight))
        self.register_buffer("_product", torch.zeros_like(self.products.weight))

    def connect(self, graph: InteractionGraph) -> None:
        """Give the graph to train on; a model that is only evaluated or exported needs none."""
        self._graph = graph
        self._fold()

    @property
    def user_encoder(self) -> GraphUserEncoder:
        """The user side behind its dense door."""
        self._fold()
        return GraphUserEncoder(own=self._own, told=self._told)

    @property
    def item_encoder(self) -> GraphItemEncoder:
        """The item side behind its dense door."""
        self._fold()
        return GraphItemEncoder(product=self._product)

    def training_vectors(self, batch: TwoTowerBatch) -> tuple[Tensor, Tensor]:
        """Smooth all tables and take the rows of a batch.

        Returns:
            Unit user vectors ``[B, D]`` divided by the temperature, and unit vectors of the batch's items ``[C, D]``.

        Raises:
            ValueError: If the model was given no graph.
        """
        told_VD, product_VD, graph = self._smooth()
        pooled_UD = graph.pooled_by_user(told_VD)
        user = batch.features["user"].values()
        user_BD = self.users(user) / (self._num_layers + 1) + pooled_UD[user]
        bags = batch.features["product"]
        offsets = F.pad(bags.lengths()[batch.num_users :].cumsum(0), (1, 0))
        item_CD = F.embedding_bag(bags.values(), product_VD, offsets, mode="sum", include_last_offset=True)
        return F.normalize(user_BD) / self.temperature, F.normalize(item_CD)

    def _smooth(self) -> tuple[Tensor, Tensor, InteractionGraph]:
        """What products say of their users ``[V, D]``, the root of the user's edges left out, and their vectors."""
        if self._graph is None:
            raise ValueError("connect(graph) must come before training")
        self._graph = graph = self._graph.to(self.products.weight.device)
        user_UD, product_VD = self.users.weight, self.products.weight
        products, below_VD = product_VD, torch.zeros_like(product_VD)
        for _ in range(self._num_layers):
            below_VD = below_VD + product_VD
            user_UD, product_VD = graph.spread_to_users(product_VD), graph.spread_to_products(user_UD)
            products = products + product_VD
        share = 1 / (self._num_layers + 1)
        return below_VD * share * inverse_root(graph.product_offsets.diff()), products * share, graph

    @torch.no_grad()
    def _fold(self) -> None:
        if self._graph is None:
            return
        told_VD, product_VD, _ = self._smooth()
        self._own.copy_(self.users.weight / (self._num_layers + 1))
        self._told.copy_(told_VD)
        self._product.copy_(product_VD)
        for table in (self._own, self._told, self._product):
            table[:FIRST_INDEX] = 0.0


def _make_table(num_rows: int, embedding_dim: int) -> nn.Embedding:
    """Return a table of random rows of about length one; those of PAD and OOV stay as they are."""
    table = nn.Embedding(num_rows, embedding_dim)
    with torch.no_grad():
        nn.init.normal_(table.weight, std=embedding_dim**-0.5)
        table.weight[: OOV_INDEX + 1] = 0.0
    return table
