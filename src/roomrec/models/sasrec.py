"""SASRec and its relatives: an encoder of events made of interchangeable blocks, and the item encoder beside it.

Legend: B batch, L sequence, P target positions, C items, D embedding; of one viewer T events seen before, S new ones.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from roomrec.batches.batch import HistoryBatch, ItemBatch, SequenceBatch
from roomrec.events.schema import EVENT_TYPES
from roomrec.features.spec import FeatureSpec
from roomrec.features.transforms import NUM_TIME_GAP_BUCKETS, NUM_WATCH_TIME_BUCKETS
from roomrec.ids import PAD_INDEX
from roomrec.models.attention import ExtendableBlock, Scope, causal_mask
from roomrec.models.dropout import Dropout
from roomrec.models.embeddings import ItemEncoder, SharedEmbeddings, make_table
from roomrec.models.product_catalogue import ProductCatalogue


class SequenceEncoder(nn.Module):
    """A user encoder: the sum of what is known of each event, through a stack of blocks.

    Positions are learned and counted from the oldest event kept, whatever padding stands beside it.

    Args:
        embeddings: Tables shared with the item encoder.
        products: Vectors of products by index; None where the log has none.
        blocks: What transforms events, at least one; called as ``TransformerBlock``.
        embedding_dim: D.
        max_sequence_length: Positions.
        dropout_rate: On the embedded events.
    """

    def __init__(
        self,
        *,
        embeddings: SharedEmbeddings,
        products: nn.Module | None,
        blocks: nn.ModuleList,
        embedding_dim: int,
        max_sequence_length: int,
        dropout_rate: float,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.products = products
        self.event_type = make_table(len(EVENT_TYPES) + 1, embedding_dim)
        self.time_gap = make_table(NUM_TIME_GAP_BUCKETS, embedding_dim)
        self.watch_time = make_table(NUM_WATCH_TIME_BUCKETS, embedding_dim)
        self.position = nn.Embedding(max_sequence_length, embedding_dim)
        nn.init.normal_(self.position.weight, std=0.02)
        # Tables begin small, as item vectors must; without this the blocks would drown what the event was.
        self.embedding_norm = nn.LayerNorm(embedding_dim)
        self.dropout = Dropout(dropout_rate)
        self.blocks = blocks
        self.last_norm = nn.LayerNorm(embedding_dim)

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
        """Encode users by their histories, each input ``[B, L]``, padded on the left; ``user_index`` is not used.

        Returns:
            User vectors ``[B, D]``.
        """
        unused = event_type[:, 0] if user_index is None else user_index
        history = HistoryBatch(
            event_type, streamer_index, product_index, time_gap_bucket, watch_time_bucket, age_s, unused
        )
        scope = Scope(causal_mask(event_type != PAD_INDEX), age_s)
        return self._encode(history, scope, newest_only=True)[:, -1]

    def encode_all(self, history: HistoryBatch) -> Tensor:
        """Encode the user as of each event, ``[B, L, D]``.

        Args:
            history: Padded on the right, so that nobody needs a mask; what comes out at padding means nothing.
        """
        return self._encode(history, Scope(None, history.age_s), newest_only=False)

    @property
    def num_cached(self) -> int | None:
        """Tensors kept of the events seen before, of all blocks together; None where a block cannot be extended."""
        extendable = [block for block in self.blocks if isinstance(block, ExtendableBlock)]
        return sum(block.num_cached for block in extendable) if len(extendable) == len(self.blocks) else None

    def encode_increment(self, new: HistoryBatch, past: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Encode a user by new events and what was kept of those before; the vector is that of the whole history.

        Args:
            new: The new events of one user, at least one, each input ``[S]`` and as it stands in the whole history:
                time gaps count from the event before. Ages and ``user_index`` are not used.
            past: ``num_cached`` tensors ``[T, D]``: what earlier calls returned, joined; T may be 0.

        Returns:
            The user vector ``[1, D]``, and ``num_cached`` tensors ``[S, D]`` to put behind ``past``.
        """
        position_S = past[0].shape[0] + torch.arange(new.event_type.shape[0], device=new.event_type.device)
        x_SD = self._embed(new, position_S)
        unread, kept = list(past), list[Tensor]()
        for nth, block in enumerate(self.blocks, start=1):
            assert isinstance(block, ExtendableBlock)
            cached, unread = unread[: block.num_cached], unread[block.num_cached :]
            x_SD, added = block.extend(x_SD, cached, newest_only=nth == len(self.blocks))
            kept += added
        vector_1D: Tensor = self.last_norm(x_SD)
        return vector_1D, kept

    def _encode(self, history: HistoryBatch, scope: Scope, *, newest_only: bool) -> Tensor:
        position_BL = ((history.event_type != PAD_INDEX).long().cumsum(dim=1) - 1).clamp(min=0)
        x_BLD = self.dropout(self._embed(history, position_BL))
        for nth, block in enumerate(self.blocks, start=1):
            x_BLD = block(x_BLD, scope, newest_only=newest_only and nth == len(self.blocks))
        normed: Tensor = self.last_norm(x_BLD)
        return normed

    def _embed(self, history: HistoryBatch, position_BL: Tensor) -> Tensor:
        x_BLD: Tensor = (
            self.event_type(history.event_type)
            + self.time_gap(history.time_gap_bucket)
            + self.watch_time(history.watch_time_bucket)
            + self.position(position_BL)
        )
        if "streamer" in self.embeddings.tables:
            streamer_BL = self.embeddings.drop_ids(history.streamer_index)
            x_BLD = x_BLD + self.embeddings.look_up("streamer", streamer_BL)
        if self.products is not None:
            x_BLD = x_BLD + self.products(history.product_index)
        normed: Tensor = self.embedding_norm(x_BLD)
        return normed


class SASRec(nn.Module):
    """A sequential recommender: the next event's item has the highest dot product.

    Args:
        spec: Cardinalities of the features.
        embedding_dim: D.
        max_sequence_length: L, the newest events that count.
        num_blocks: Blocks, at least 1.
        block: Makes one: ``TransformerBlock`` (SASRec), ``LigrBlock`` (eSASRec), ``HstuBlock`` (HSTU).
        dropout_rate: On embedded events and in the blocks.
        id_dropout_rate: See ``SharedEmbeddings``.

    Reference:
        Kang & McAuley 2018 (SASRec). Deliberate differences: events instead of items, full pre-norm, GELU, learned
        positions counted from the oldest event, embedded events normalised as in S3-Rec (Zhou et al. 2020), a product
        in the history has the vector it has as an item.
    """

    batch_type = SequenceBatch

    def __init__(
        self,
        *,
        spec: FeatureSpec,
        embedding_dim: int,
        max_sequence_length: int,
        num_blocks: int,
        block: Callable[..., nn.Module],
        dropout_rate: float,
        id_dropout_rate: float,
    ) -> None:
        super().__init__()
        if num_blocks < 1:
            raise ValueError(f"num_blocks must be at least 1, received {num_blocks}")
        self.max_sequence_length = max_sequence_length
        self.embedding_dim = embedding_dim
        embeddings = SharedEmbeddings(spec=spec, embedding_dim=embedding_dim, id_dropout_rate=id_dropout_rate)
        self.item_encoder = ItemEncoder(embeddings=embeddings)
        sizes = {"embedding_dim": embedding_dim, "max_sequence_length": max_sequence_length}
        self.user_encoder = SequenceEncoder(
            embeddings=embeddings,
            products=ProductCatalogue(item_encoder=self.item_encoder, spec=spec) if spec.num_products else None,
            blocks=nn.ModuleList(block(**sizes, dropout_rate=dropout_rate) for _ in range(num_blocks)),
            dropout_rate=dropout_rate,
            **sizes,
        )

    def describe_products(self, products: ItemBatch) -> None:
        """Tell the user encoder what is known of each product of the vocabulary, in the order of the indices."""
        catalogue = self.user_encoder.products
        if isinstance(catalogue, ProductCatalogue):
            catalogue.describe(products)

    def training_vectors(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Encode a training batch.

        Returns:
            User vectors at the target positions ``[P, D]`` and the vectors of the batch's items ``[C, D]``.
        """
        hidden_BLD = self.user_encoder.encode_all(batch.history)
        user_PD = torch.index_select(hidden_BLD.flatten(0, 1), 0, batch.target_place)
        item_CD: Tensor = self.item_encoder(*batch.items)
        return user_PD, item_CD
