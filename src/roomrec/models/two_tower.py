"""Two towers over one TorchRec EmbeddingBagCollection: a user is what he chose, an item is what is known of it.

Legend: B users, C items, L history, W places of a bag, D embedding.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from roomrec.batches.batch import TwoTowerBatch
from roomrec.batches.jagged import ITEM_KEYS, USER_KEYS
from roomrec.features.spec import FeatureSpec
from roomrec.ids import FIRST_INDEX, OOV_INDEX, PAD_INDEX

_FEATURES_OF_TABLE = {
    "user": ["user"],
    "streamer": ["history_streamer", "streamer"],
    "product": ["history_product", "product"],
    "category": ["category"],
    "title": ["title"],
    "price_band": ["price_band"],
    "attributes": ["attributes"],
}


class Tower(nn.Module):
    """Adds a small residual network to pooled features and scales the result to length one.

    Args:
        embedding_dim: D.
        hidden_dim: Width of the network; 0 leaves it out.
    """

    def __init__(self, *, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.network: nn.Sequential | None = None
        if hidden_dim:
            last = nn.Linear(hidden_dim, embedding_dim)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.network = nn.Sequential(nn.Linear(embedding_dim, hidden_dim), nn.GELU(), last)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """Return unit vectors ``[B, D]``; a user or item of whom nothing is known may get zero."""
        if self.network is not None:
            pooled_BD = pooled_BD + self.network(pooled_BD)
        return F.normalize(pooled_BD, dim=-1)


class HistoryEncoder(nn.Module):
    """The dense door of the user tower: padded histories instead of jagged ones, the same numbers.

    Args:
        tables: Tables by name, shared with the collection that training uses.
        tower: The user tower.
    """

    def __init__(self, *, tables: nn.ModuleDict, tower: Tower) -> None:
        super().__init__()
        self.tables = tables
        self.tower = tower

    def forward(
        self,
        event_type: Tensor,
        streamer_index: Tensor,
        product_index: Tensor,
        time_gap_bucket: Tensor,
        watch_time_bucket: Tensor,
        age_s: Tensor,
        user_index: Tensor | None = None,
    ) -> Tensor:
        """Encode users, each input ``[B, L]`` padded on the left, ``user_index`` ``[B]``.

        Returns:
            User vectors ``[B, D]``.
        """
        bags = {"streamer": streamer_index, "product": product_index}
        if user_index is not None:
            bags["user"] = user_index[:, None]
        return _pool(self.tables, bags, self.tower)


class ItemTower(nn.Module):
    """The dense door of the item tower.

    Args:
        tables: Tables by name, shared with the collection that training uses.
        tower: The item tower.
    """

    def __init__(self, *, tables: nn.ModuleDict, tower: Tower) -> None:
        super().__init__()
        self.tables = tables
        self.tower = tower

    def forward(
        self,
        streamer: Tensor,
        product: Tensor,
        category: Tensor,
        title: Tensor,
        price_band: Tensor,
        attributes: Tensor,
    ) -> Tensor:
        """Encode items: ``product``, ``title`` and ``attributes`` ``[C, W]`` padded on the right, the others ``[C]``.

        Returns:
            Item vectors ``[C, D]``.
        """
        bags = {
            "streamer": streamer[:, None],
            "product": product,
            "category": category[:, None],
            "title": title,
            "price_band": price_band[:, None],
            "attributes": attributes,
        }
        return _pool(self.tables, bags, self.tower)


class TwoTower(nn.Module):
    """A retrieval model: cosine of a user, the mean of what he chose, and an item, the sum of what is known of it.

    Tables of streamers and products are shared by both towers.

    Args:
        spec: Cardinalities of the features.
        embedding_dim: D.
        max_sequence_length: L, the newest events that count.
        hidden_dim: Width of each tower's residual network; 0 leaves it out.
        temperature: Cosines are divided by it in training.
        use_user_id: Give every user of the vocabulary a vector of his own too.
        id_dropout_rate: In training, the share of streamer and product ids replaced by ``OOV_INDEX``, where the log has
            side features.

    Reference:
        Covington et al. 2016 (YouTubeDNN) for the mean of the history; Yi et al. 2019 for normalisation, temperature
        and the logQ correction (done by the caller).
    """

    batch_type = TwoTowerBatch

    def __init__(
        self,
        *,
        spec: FeatureSpec,
        embedding_dim: int,
        max_sequence_length: int,
        hidden_dim: int,
        temperature: float,
        use_user_id: bool,
        id_dropout_rate: float,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, received {temperature}")
        self.max_sequence_length = max_sequence_length
        self.embedding_dim = embedding_dim
        self.temperature = temperature
        self.id_dropout_rate = id_dropout_rate if spec.has_side_features else 0.0
        rows = {
            "user": spec.num_users if use_user_id else 0,
            "streamer": spec.num_streamers,
            "product": spec.num_products,
            "category": spec.num_categories,
            "title": spec.num_title_tokens,
            "price_band": spec.num_price_bands,
            "attributes": spec.num_attributes,
        }
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=name,
                    embedding_dim=embedding_dim,
                    num_embeddings=num_rows,
                    feature_names=_FEATURES_OF_TABLE[name],
                    pooling=PoolingType.MEAN,
                    init_fn=_init_rows,
                )
                for name, num_rows in rows.items()
                if num_rows > 0
            ]
        )
        self._keys = [key for name in rows if rows[name] > 0 for key in _FEATURES_OF_TABLE[name]]
        self.user_tower = Tower(embedding_dim=embedding_dim, hidden_dim=hidden_dim)
        self.item_tower = Tower(embedding_dim=embedding_dim, hidden_dim=hidden_dim)

    @property
    def user_encoder(self) -> HistoryEncoder:
        """The user side behind its dense door."""
        return HistoryEncoder(tables=self.collection.embedding_bags, tower=self.user_tower).train(self.training)

    @property
    def item_encoder(self) -> ItemTower:
        """The item side behind its dense door."""
        return ItemTower(tables=self.collection.embedding_bags, tower=self.item_tower).train(self.training)

    def training_vectors(self, batch: TwoTowerBatch) -> tuple[Tensor, Tensor]:
        """Encode a training batch through the collection.

        Returns:
            User vectors ``[B, D]`` divided by the temperature, and the vectors of the batch's items ``[C, D]``.
        """
        features = batch.features
        if self.training and self.id_dropout_rate > 0:
            features = self._drop_ids(features)
        pooled = self.collection(features).to_dict()
        user_BD = _total([pooled[key][: batch.num_users] for key in USER_KEYS if key in self._keys])
        item_CD = _total([pooled[key][batch.num_users :] for key in ITEM_KEYS if key in self._keys])
        return self.user_tower(user_BD) / self.temperature, self.item_tower(item_CD)

    def _drop_ids(self, features: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """Replace some real streamer and product ids of users and items by ``OOV_INDEX``."""
        values = features.values()
        droppable = torch.zeros_like(values, dtype=torch.bool)
        first = 0
        for key, count in zip(features.keys(), features.length_per_key(), strict=True):
            if key.endswith(("streamer", "product")):
                droppable[first : first + count] = True
            first += count
        dropped = (
            droppable
            & (values >= FIRST_INDEX)
            & (torch.rand(values.shape, device=values.device) < self.id_dropout_rate)
        )
        return KeyedJaggedTensor(
            keys=features.keys(),
            values=values.masked_fill(dropped, OOV_INDEX),
            lengths=features.lengths(),
            length_per_key=features.length_per_key(),  # or the device is asked, and waited for
        )


def _init_rows(weight: Tensor) -> None:
    """Small random rows; PAD and OOV begin at zero."""
    with torch.no_grad():
        weight.normal_(std=weight.shape[1] ** -0.5)
        weight[:FIRST_INDEX] = 0.0


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(dim=0)


def _pool(tables: nn.ModuleDict, bags: dict[str, Tensor], tower: Tower) -> Tensor:
    """Mean of the real entries of each bag that has a table, added up and sent through the tower."""
    parts = []
    for name, bag_BW in bags.items():
        if name in tables:
            real_BW = bag_BW != PAD_INDEX
            table: Tensor = tables[name].get_parameter("weight")
            rows_BWD = F.embedding(bag_BW, table) * real_BW[..., None]
            parts.append(rows_BWD.sum(dim=1) / real_BW.sum(dim=1, keepdim=True).clamp(min=1))
    vectors: Tensor = tower(_total(parts))
    return vectors
