"""A model as a scorer: user vector times item vector, as retrieval does it when serving."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from roomrec.batches.collate import collate_histories, collate_items
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries

_USERS_AT_ONCE: Final = 256
_ITEMS_AT_ONCE: Final = 8192

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class EncoderScorer:
    """Scores of a trained pair of encoders. Items are encoded once, users chunk by chunk.

    Args:
        dataset: Where items and histories come from.
        user_encoder: Called with the fields of ``HistoryBatch``, returns ``[B, D]``.
        item_encoder: Called with the fields of ``ItemBatch``, returns ``[V, D]``.
        max_sequence_length: L, the most events of a history the user encoder sees.
        device: Where the encoders are.
        name: What tables call it.
    """

    def __init__(
        self,
        dataset: ProcessedDataset,
        *,
        user_encoder: nn.Module,
        item_encoder: nn.Module,
        max_sequence_length: int,
        device: torch.device | str = "cpu",
        name: str = "model",
    ) -> None:
        self.name = name
        self._dataset = dataset
        self._user_encoder = user_encoder
        self._max_sequence_length = max_sequence_length
        self._device = torch.device(device)
        self._item_vectors = encode_items(item_encoder, dataset, device=self._device)
        self._shared: tuple[Int64Array, Float32Array] | None = None

    def prepare(self, queries: Queries) -> "_EncodedUsers":
        """Encode the histories behind these queries."""
        vectors = encode_users(
            self._user_encoder,
            self._dataset,
            row=queries.row,
            stop=queries.stop,
            max_sequence_length=self._max_sequence_length,
            device=self._device,
        )
        return _EncodedUsers(self, vectors)

    def vectors_of(self, candidates: Int64Array) -> Float32Array:
        """Return the vectors of candidates ``[C, D]``; asked again for the same array, the same answer at once."""
        if self._shared is None or self._shared[0] is not candidates:
            self._shared = (candidates, self._item_vectors[candidates])
        return self._shared[1]


class _EncodedUsers:
    def __init__(self, scorer: EncoderScorer, vectors: Float32Array) -> None:
        self._scorer = scorer
        self._vectors = vectors

    def matrix(self, candidates: Int64Array) -> Float32Array:
        return self._vectors @ self._scorer.vectors_of(candidates).T

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        return self._scorer.vectors_of(candidates) @ self._vectors[place]


def encode_users(
    user_encoder: nn.Module,
    dataset: ProcessedDataset,
    *,
    row: Int64Array,
    stop: Int64Array,
    max_sequence_length: int,
    device: torch.device | str = "cpu",
) -> Float32Array:
    """Encode the newest events of some histories before the places ``stop``, ``[n, D]`` float32."""
    histories = dataset.histories
    start = np.maximum(histories.offsets[row], stop - max_sequence_length)
    parts = []
    with _evaluating(user_encoder):
        for first in range(0, len(row), _USERS_AT_ONCE):
            some = slice(first, first + _USERS_AT_ONCE)
            batch = collate_histories(histories, row=row[some], start=start[some], stop=stop[some])
            parts.append(user_encoder(*(tensor.to(device) for tensor in batch)).float().cpu().numpy())
    return np.concatenate(parts)


def encode_items(
    item_encoder: nn.Module, dataset: ProcessedDataset, *, device: torch.device | str = "cpu"
) -> Float32Array:
    """Encode every item of a dataset, ``[V, D]`` float32; the first two rows, PAD and OOV, stand for no item."""
    parts = []
    with _evaluating(item_encoder):
        for first in range(0, len(dataset.items.kind), _ITEMS_AT_ONCE):
            numbers = np.arange(first, min(first + _ITEMS_AT_ONCE, len(dataset.items.kind)))
            batch = collate_items(dataset.items, numbers)
            parts.append(item_encoder(*(tensor.to(device) for tensor in batch)).float().cpu().numpy())
    return np.concatenate(parts)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Switch off dropout and gradients, and leave the module as it was."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)
