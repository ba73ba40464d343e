"""A trained run together with the dataset it was trained on, for jobs that come after training."""

from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig
from torch import nn

from roomrec.errors import ConfigurationError, DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from training.environment import code_revision
from training.run_folder import load_trained_model
from training.settings import require_dataset


class TrainedRun(NamedTuple):
    """What evaluation and export need."""

    folder: Path
    """of the run"""
    model: nn.Module
    """has ``user_encoder`` and ``item_encoder``, on the CPU, in evaluation mode"""
    config: DictConfig
    """the composed config of training"""
    max_sequence_length: int
    """newest events the user encoder was trained to see"""
    dataset: ProcessedDataset
    """the one the run was trained on"""
    dataset_folder: Path
    """where it lies"""
    code_revision: str
    """of the code that runs now"""


def open_run(folder: Path, *, data_dir: Path, dataset: str | None = None) -> TrainedRun:
    """Open a run and its dataset.

    Args:
        folder: The run's folder.
        data_dir: Where datasets lie, in ``processed``.
        dataset: Folder or name of a dataset to use instead of the one the run names.

    Raises:
        ConfigurationError: If the run has no checkpoint.
        DatasetError: If the dataset is missing or has another vocabulary than the run was trained with.
    """
    trained = load_trained_model(folder)
    dataset_folder = require_dataset(dataset or trained.config.dataset, data_dir)
    opened = ProcessedDataset.open(dataset_folder)
    if opened.vocabulary_fingerprint != trained.vocabulary_fingerprint:
        raise DatasetError(
            f"{dataset_folder} has another vocabulary than {folder} was trained with: choose the right dataset=..., or "
            "train again"
        )
    return TrainedRun(
        folder=folder,
        model=trained.model,
        config=trained.config,
        max_sequence_length=trained.max_sequence_length,
        dataset=opened,
        dataset_folder=dataset_folder,
        code_revision=code_revision() or "unknown",
    )


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is the CUDA device where there is one, else the CPU.

    Raises:
        ConfigurationError: If the machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigurationError(f"device is {name!r}: choose auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError("device=cuda needs a CUDA device and a CUDA build of torch: use device=cpu")
    return device
