"""Inputs on which ONNX and torch must agree: real histories and items, and the corners no sample is sure to hit.

Legend: B batch, L sequence, C items.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.batches.collate import collate_histories
from roomrec.features.spec import HISTORY_INPUTS, ITEM_INPUTS
from roomrec.ids import OOV_INDEX
from roomrec.sequences.dataset import ProcessedDataset

_NUM_HISTORIES: Final = 256
_NUM_ITEMS: Final = 1024
_SEED: Final = 1

Arrays = dict[str, npt.NDArray[np.int64]]


def recorded_histories(dataset: ProcessedDataset, *, max_sequence_length: int) -> list[Arrays]:
    """Return batches for the user encoder, each by input name.

    Args:
        dataset: Where real histories come from.
        max_sequence_length: L at most.

    Returns:
        A sample of real histories as they stood at random moments; then an empty history, one event, a full length, a
        full length of unknown ids, and one batch that mixes empty with full.
    """
    histories = dataset.histories
    rng = np.random.default_rng(_SEED)
    row = rng.integers(len(histories.user_index), size=_NUM_HISTORIES)
    length = histories.offsets[row + 1] - histories.offsets[row]
    stop = histories.offsets[row] + rng.integers(0, length + 1)
    start = np.maximum(histories.offsets[row], stop - max_sequence_length)
    batch = collate_histories(histories, row=row, start=start, stop=stop)
    sampled = {name: tensor.numpy() for name, tensor in batch._asdict().items()}
    newest = sampled["event_type"].argmax(axis=0)[-1:]
    one_event = {name: values[newest] for name, values in sampled.items()}
    for name in HISTORY_INPUTS:
        one_event[name] = one_event[name][:, -1:]
    full = {name: np.repeat(values, max_sequence_length, axis=-1) for name, values in one_event.items()}
    full["user_index"] = one_event["user_index"]
    unknown = dict(full)
    for name in ("streamer_index", "product_index"):
        unknown[name] = np.where(full[name] > 0, OOV_INDEX, 0)
    unknown["user_index"] = np.full(1, OOV_INDEX, dtype=np.int64)
    empty = {name: np.zeros_like(values) for name, values in full.items()}
    mixed = {name: np.concatenate([empty[name], full[name], unknown[name]]) for name in full}
    nothing = {name: values[..., -1:] for name, values in empty.items()}
    return [sampled, one_event, nothing, full, unknown, empty, mixed]


def recorded_items(dataset: ProcessedDataset) -> list[Arrays]:
    """Return batches for the item encoder, each by input name: a sample of items, PAD and OOV first; then one alone."""
    sample = np.random.default_rng(_SEED).permutation(len(dataset.items.kind))[:_NUM_ITEMS]
    numbers = np.union1d([0, OOV_INDEX], sample)
    return [items_of(dataset, some) for some in (numbers, numbers[-1:])]


def items_of(dataset: ProcessedDataset, item_index: npt.NDArray[np.int64]) -> Arrays:
    """Return the inputs of the item encoder for some items, bags at full width as serving makes them."""
    return {name: getattr(dataset.items, name)[item_index] for name in ITEM_INPUTS}
