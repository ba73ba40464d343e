"""A big ``nn.Embedding`` as a TorchRec collection, so that it can be split over processes; called in the same way."""

from typing import Final

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

_FEATURE: Final = "rows"


class LookUp(nn.Module):
    """One table, called with indices of any shape like the ``nn.Embedding`` it replaces.

    Args:
        name: Of the table.
        table: What is replaced; its weights are not taken over. Its ``padding_idx`` gives zeros and is never sent
            anywhere.
    """

    def __init__(self, *, name: str, table: nn.Embedding) -> None:
        super().__init__()
        self.padding_idx = table.padding_idx
        self.embedding_dim = table.embedding_dim
        self.collection = EmbeddingCollection(
            device=torch.device("meta"),
            tables=[
                EmbeddingConfig(
                    name=name,
                    embedding_dim=table.embedding_dim,
                    num_embeddings=table.num_embeddings,
                    feature_names=[_FEATURE],
                )
            ],
        )

    def forward(self, index: Tensor) -> Tensor:
        """Return rows ``[..., D]`` for indices ``[...]``."""
        values = index.flatten()
        if self.padding_idx is None:
            return self._rows(values).view(*index.shape, -1)
        real = (values != self.padding_idx).nonzero().flatten()
        rows = self._rows(values[real])
        padded = rows.new_zeros(len(values), self.embedding_dim).index_copy(0, real, rows)
        return padded.view(*index.shape, -1)

    def _rows(self, values: Tensor) -> Tensor:
        features = KeyedJaggedTensor(
            keys=[_FEATURE], values=values, lengths=torch.tensor([len(values)], device=values.device)
        )
        rows: Tensor = self.collection(features)[_FEATURE].values()
        return rows
