"""SASRec on events: a causal transformer over item, event type, time gap and watch time.

Legend: B batch, L sequence, P target positions, C items, D embedding.
"""

import torch
from torch import Tensor, nn

from roomrec.batches.batch import HistoryBatch, SequenceBatch
from roomrec.events.schema import EVENT_TYPES
from roomrec.features.spec import FeatureSpec
from roomrec.features.transforms import NUM_TIME_GAP_BUCKETS, NUM_WATCH_TIME_BUCKETS
from roomrec.ids import PAD_INDEX
from roomrec.models.attention import CausalSelfAttention, causal_mask
from roomrec.models.embeddings import ItemEncoder, SharedEmbeddings, make_table
from roomrec.models.feed_forward import FeedForward


class Block(nn.Module):
    """Self-attention and feed-forward, each with normalisation and a residual.

    Args:
        embedding_dim: D.
        num_heads: Attention heads.
        hidden_dim: Width of the feed-forward.
        dropout_rate: In attention weights, in the feed-forward and on both residuals.
        norm_first: Normalise before each half (pre-norm) instead of after its residual.
    """

    def __init__(
        self, *, embedding_dim: int, num_heads: int, hidden_dim: int, dropout_rate: float, norm_first: bool
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.attention = CausalSelfAttention(
            embedding_dim=embedding_dim, num_heads=num_heads, dropout_rate=dropout_rate
        )
        self.feed_forward = FeedForward(embedding_dim=embedding_dim, hidden_dim=hidden_dim, dropout_rate=dropout_rate)
        self.attention_norm = nn.LayerNorm(embedding_dim)
        self.feed_forward_norm = nn.LayerNorm(embedding_dim)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, x_BLD: Tensor, may_attend_B1LL: Tensor, *, newest_only: bool = False) -> Tensor:
        """Transform events.

        Args:
            x_BLD: All events.
            may_attend_B1LL: See ``causal_mask``.
            newest_only: Compute the newest event alone.

        Returns:
            ``[B, L, D]``, or ``[B, 1, D]`` for the newest only.
        """
        seen_BLD = self.attention_norm(x_BLD) if self.norm_first else x_BLD
        asking_BQD, x_BQD, may_attend_B1QL = seen_BLD, x_BLD, may_attend_B1LL
        if newest_only:
            asking_BQD, x_BQD, may_attend_B1QL = seen_BLD[:, -1:], x_BLD[:, -1:], may_attend_B1LL[:, :, -1:]
        x_BQD = x_BQD + self.dropout(self.attention(asking_BQD, seen_BLD, may_attend_B1QL))
        if self.norm_first:
            refined: Tensor = x_BQD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BQD)))
            return refined
        x_BQD = self.attention_norm(x_BQD)
        normed: Tensor = self.feed_forward_norm(x_BQD + self.dropout(self.feed_forward(x_BQD)))
        return normed


class SequenceEncoder(nn.Module):
    """The user encoder of SASRec.

    Positions are learned and counted from the oldest event kept, whatever padding stands before it.

    Args:
        embeddings: Tables shared with the item encoder.
        embedding_dim: D.
        max_sequence_length: Positions.
        num_blocks: Transformer blocks, at least 1.
        num_heads: Attention heads.
        hidden_dim: Width of the feed-forwards.
        dropout_rate: On the embedded events and in the blocks.
        norm_first: Pre-norm blocks with a last normalisation instead of post-norm blocks.
    """

    def __init__(
        self,
        *,
        embeddings: SharedEmbeddings,
        embedding_dim: int,
        max_sequence_length: int,
        num_blocks: int,
        num_heads: int,
        hidden_dim: int,
        dropout_rate: float,
        norm_first: bool,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.event_type = make_table(len(EVENT_TYPES) + 1, embedding_dim)
        self.time_gap = make_table(NUM_TIME_GAP_BUCKETS, embedding_dim)
        self.watch_time = make_table(NUM_WATCH_TIME_BUCKETS, embedding_dim)
        self.position = nn.Embedding(max_sequence_length, embedding_dim)
        nn.init.normal_(self.position.weight, std=0.02)
        # Tables begin small, as item vectors must; without this the blocks would drown what the event was.
        self.embedding_norm = nn.LayerNorm(embedding_dim)
        self.dropout = nn.Dropout(dropout_rate)
        self.blocks = nn.ModuleList(
            Block(
                embedding_dim=embedding_dim,
                num_heads=num_heads,
                hidden_dim=hidden_dim,
                dropout_rate=dropout_rate,
                norm_first=norm_first,
            )
            for _ in range(num_blocks)
        )
        self.last_norm = nn.LayerNorm(embedding_dim) if norm_first else nn.Identity()

    def forward(
        self,
        event_type: Tensor,
        streamer_index: Tensor,
        product_index: Tensor,
        time_gap_bucket: Tensor,
        watch_time_bucket: Tensor,
        user_index: Tensor | None = None,
    ) -> Tensor:
        """Encode users by their histories, each input ``[B, L]``, padded on the left; ``user_index`` is not used.

        Returns:
            User vectors ``[B, D]``.
        """
        history = HistoryBatch(
            event_type,
            streamer_index,
            product_index,
            time_gap_bucket,
            watch_time_bucket,
            event_type[:, 0] if user_index is None else user_index,
        )
        return self._encode(history, newest_only=True)[:, -1]

    def encode_all(self, history: HistoryBatch) -> Tensor:
        """Encode the user as of each event, ``[B, L, D]``; what stands at padding means nothing."""
        return self._encode(history, newest_only=False)

    def _encode(self, history: HistoryBatch, *, newest_only: bool) -> Tensor:
        mask_BL = history.event_type != PAD_INDEX
        x_BLD = self.dropout(self._embed(history, mask_BL))
        may_attend_B1LL = causal_mask(mask_BL)
        for nth, block in enumerate(self.blocks, start=1):
            x_BLD = block(x_BLD, may_attend_B1LL, newest_only=newest_only and nth == len(self.blocks))
        normed: Tensor = self.last_norm(x_BLD)
        return normed

    def _embed(self, history: HistoryBatch, mask_BL: Tensor) -> Tensor:
        position_BL = (mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        x_BLD: Tensor = (
            self.event_type(history.event_type)
            + self.time_gap(history.time_gap_bucket)
            + self.watch_time(history.watch_time_bucket)
            + self.position(position_BL)
        )
        tables = self.embeddings.tables
        for name, index in (("streamer", history.streamer_index), ("product", history.product_index)):
            if name in tables:
                x_BLD = x_BLD + self.embeddings.look_up(name, self.embeddings.drop_ids(index))
        normed: Tensor = self.embedding_norm(x_BLD)
        return normed * mask_BL[..., None]


class SASRec(nn.Module):
    """A sequential recommender: the next event's item has the highest dot product.

    Args:
        spec: Cardinalities of the features.
        embedding_dim: D.
        max_sequence_length: L, the newest events that count.
        num_blocks: Transformer blocks.
        num_heads: Attention heads.
        hidden_dim: Width of the feed-forwards.
        dropout_rate: On embedded events and in the blocks.
        norm_first: Pre-norm instead of post-norm blocks.
        id_dropout_rate: See ``SharedEmbeddings``.

    Reference:
        Kang & McAuley 2018 (SASRec). Deliberate differences: events instead of items, full pre-norm, GELU, learned
        positions counted from the oldest event, embedded events normalised as in S3-Rec (Zhou et al. 2020).
    """

    def __init__(
        self,
        *,
        spec: FeatureSpec,
        embedding_dim: int,
        max_sequence_length: int,
        num_blocks: int,
        num_heads: int,
        hidden_dim: int,
        dropout_rate: float,
        norm_first: bool,
        id_dropout_rate: float,
    ) -> None:
        super().__init__()
        self.max_sequence_length = max_sequence_length
        self.embedding_dim = embedding_dim
        embeddings = SharedEmbeddings(spec=spec, embedding_dim=embedding_dim, id_dropout_rate=id_dropout_rate)
        self.item_encoder = ItemEncoder(embeddings=embeddings)
        self.user_encoder = SequenceEncoder(
            embeddings=embeddings,
            embedding_dim=embedding_dim,
            max_sequence_length=max_sequence_length,
            num_blocks=num_blocks,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            dropout_rate=dropout_rate,
            norm_first=norm_first,
        )

    def training_vectors(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Encode a training batch.

        Returns:
            User vectors at the target positions ``[P, D]`` and the vectors of the batch's items ``[C, D]``.
        """
        hidden_BLD = self.user_encoder.encode_all(batch.history)
        user_PD = torch.index_select(hidden_BLD.flatten(0, 1), 0, batch.target_place)
        item_CD: Tensor = self.item_encoder(*batch.items)
        return user_PD, item_CD
