"""Batches of different size in different processes: gloo's all_gather wants them alike."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor


class EvenStrides:
    """Fills up the bags of a split EmbeddingBagCollection with empty ones to as many as the largest process has.

    TorchRec's split by rows sends gradients back by all_gather, which takes pieces of different size with NCCL only;
    there this is not needed.

    Args:
        collection: The collection; its calls take and return what they did.
    """

    def __init__(self, collection: nn.Module) -> None:
        self._stride = 0
        collection.register_forward_pre_hook(self._fill_up)
        collection.register_forward_hook(self._cut_back)

    def _fill_up(self, collection: nn.Module, inputs: tuple[KeyedJaggedTensor]) -> tuple[KeyedJaggedTensor]:
        (features,) = inputs
        self._stride = features.stride()
        largest = torch.tensor(self._stride)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return (fill_up(features, stride=int(largest)),)

    def _cut_back(self, collection: nn.Module, inputs: Any, pooled: Any) -> KeyedTensor:
        pooled = pooled.wait()
        return KeyedTensor(
            keys=pooled.keys(), length_per_key=pooled.length_per_key(), values=pooled.values()[: self._stride]
        )


def fill_up(features: KeyedJaggedTensor, *, stride: int) -> KeyedJaggedTensor:
    """Return the same bags with empty ones behind them, ``stride`` for each key.

    Example:
        >>> features = KeyedJaggedTensor(
        ...     keys=["user", "item"], values=torch.tensor([7, 8, 9]), lengths=torch.tensor([1, 1, 0, 1])
        ... )
        >>> fill_up(features, stride=3).lengths()
        tensor([1, 1, 0, 0, 1, 0])
    """
    keys = features.keys()
    lengths = F.pad(features.lengths().view(len(keys), -1), (0, stride - features.stride()))
    return KeyedJaggedTensor(keys=keys, values=features.values(), lengths=lengths.flatten())
