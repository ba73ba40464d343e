"""What a training begins with: settings, folder, dataset and earlier run, checked before torch is imported."""

from pathlib import Path
from typing import Final, NamedTuple

from omegaconf import DictConfig

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import ProcessedDataset
from training.configuration import check_missing
from training.preprocessing.erased import refuse_stale
from training.run_folder import (
    check_run_folder,
    check_same_dataset,
    check_same_settings,
    find_earlier_run,
    leads,
    run_folder,
)
from training.settings import check_depths, check_whole_number, require_dataset
from training.sharding.settings import check_sharded
from training.tracking.check import check_tracking

LARGEST_SEED: Final = 2**32 - 1
"""A step's seed is made of it and has to stay below 2^64."""


class Job(NamedTuple):
    """What a training begins with, when all is checked that needs no torch."""

    folder: Path
    """the run's"""
    dataset: ProcessedDataset
    """what to learn from, with the features that count"""
    earlier: Path | None
    """folder of the run whose weights to begin with"""


def open_job(config: DictConfig) -> Job:
    """Check all that can be checked without torch.

    Args:
        config: ``configs/train.yaml``, composed.

    Raises:
        ConfigurationError: If a setting is wrong, the run folder may not be written, there is nothing to resume, or
            nothing to begin with.
        DatasetError: If the dataset is missing, or not the one that a resumed run began with.
    """
    check_settings(config)
    folder = run_folder(config)
    dataset = open_dataset(config)
    if leads():
        check_run_folder(folder, resume=config.resume, overwrite=config.overwrite)
    if config.resume:
        check_same_settings(folder, config)
        check_same_dataset(folder, require_dataset(config.dataset, Path(config.data_dir)))
    return Job(folder, dataset, find_earlier_run(config, folder))


def open_dataset(config: DictConfig) -> ProcessedDataset:
    """Open what there is to learn from, with the features that count.

    Args:
        config: ``configs/train.yaml``, composed.

    Raises:
        DatasetError: If the dataset is missing, unfinished, or was made before somebody was erased.
    """
    folder = require_dataset(config.dataset, Path(config.data_dir))
    dataset = ProcessedDataset.open(folder)
    refuse_stale(folder, dataset.summary)
    if not config.side_features:
        dataset.spec = dataset.spec.ids_only()
    return dataset


def check_settings(config: DictConfig) -> None:
    """Refuse settings that make no sense.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    check_missing(config)
    check_tracking(config.tracking)
    check_sharded(config)
    for key, least in (
        ("max_epochs", 1),
        ("patience", 0),
        ("warmup_steps", 0),
        ("trainer.num_workers", 0),
    ):
        check_whole_number(config, key, at_least=least)
    check_whole_number(config, "seed", at_least=0, at_most=LARGEST_SEED)
    check_whole_number(config, "negatives.num_negatives", at_least=1)
    memory = config.average_epochs
    if not isinstance(memory, int | float) or isinstance(memory, bool) or memory < 0:
        raise ConfigurationError(f"average_epochs is {memory!r}: expected a number of epochs, or 0 for no average")
    ratio = config.guard.max_loss_ratio
    if ratio is not None and not (isinstance(ratio, int | float) and ratio > 1):
        raise ConfigurationError(f"guard.max_loss_ratio is {ratio!r}: expected a number above 1, or null for no limit")
    check_whole_number(config, "validation.max_queries", at_least=1, optional=True)
    check_depths(config, "validation.ks")
    measured = [f"val_{name}@{k}" for k in config.validation.ks for name in ("ndcg", "hr", "recall")]
    if config.validation.monitor not in (*measured, "train_loss_epoch"):
        raise ConfigurationError(
            f"validation.monitor is {config.validation.monitor!r}: with this validation.ks choose one of "
            f"{', '.join(measured)}, train_loss_epoch"
        )
