"""The batch at which training stopped, on disk: tensors and plain values that any machine can read and replay."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from roomrec.batches import batch as batch_types
from roomrec.errors import TrainingError

_JAGGED = "KeyedJaggedTensor"


class SavedBatch(NamedTuple):
    """What is needed to go through a training step once more."""

    batch: Any
    """a batch of ``roomrec.batches.batch``"""
    weights: dict[str, Tensor] | None
    """of the model just before the step; None where the device had gone on before the step was judged"""
    seed: int
    """of the run"""
    epoch: int
    """counted from 0"""
    step: int
    """place of the batch in its epoch"""
    global_step: int
    """steps done before this one"""
    rank: int
    """which process of several"""
    precision: str
    """as Lightning calls it"""
    reason: str
    """what was wrong with the step"""


def save_batch(path: Path, saved: SavedBatch) -> None:
    """Write a batch and the weights before it, loadable with ``torch.load(path, weights_only=True)``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved._asdict() | {"batch": _plain(saved.batch)}, path)


def load_batch(path: Path) -> SavedBatch:
    """Read what ``save_batch`` wrote.

    Raises:
        TrainingError: If the file holds something else.
    """
    held = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or held.keys() != set(SavedBatch._fields):
        raise TrainingError(f"{path} holds no batch saved by a training run")
    return SavedBatch(**held | {"batch": _rebuilt(held["batch"])})


def _plain(value: Any) -> Any:
    """Named tuples and jagged tensors as dictionaries with their type's name."""
    if hasattr(value, "_asdict"):
        return {"type": type(value).__name__} | {name: _plain(field) for name, field in value._asdict().items()}
    if type(value).__name__ == _JAGGED:
        return {
            "type": _JAGGED,
            "keys": list(value.keys()),
            "values": value.values().cpu(),
            "lengths": value.lengths().cpu(),
        }
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _rebuilt(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    fields = {name: _rebuilt(field) for name, field in value.items() if name != "type"}
    if value["type"] == _JAGGED:
        from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

        return KeyedJaggedTensor(**fields)
    return getattr(batch_types, value["type"])(**fields)
