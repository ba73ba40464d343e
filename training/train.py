"""Trains a model: ``python -m training.train model=sasrec dataset=beauty``."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hydra
from omegaconf import DictConfig
from rich.console import Console

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import ProcessedDataset
from training.configuration import (
    INTERRUPTED_EXIT_CODE,
    check_command_line,
    check_missing,
    one_sentence_errors,
)
from training.multirun import name_in_multirun
from training.run_folder import (
    LAST_CHECKPOINT,
    TrainingInterrupted,
    check_run_folder,
    check_same_dataset,
    check_same_model,
    describe_run,
    find_earlier_run,
    leads,
    prepare_run_folder,
    run_folder,
)
from training.settings import check_depths, check_whole_number, require_dataset
from training.sharding.settings import check_sharded
from training.tracking.check import check_tracking

if TYPE_CHECKING:
    from pytorch_lightning import Callback


class TrainingResult(NamedTuple):
    """What a training run came to; counts include what came before a resume."""

    folder: Path
    """the run's folder"""
    epochs: int
    """finished"""
    steps: int
    """of the optimiser"""
    seconds: float
    """of this call"""
    monitored: str
    """name of the metric that chose the best checkpoint"""
    best: float
    """its best value"""
    metrics: dict[str, float]
    """of the last epoch"""


def run(config: DictConfig, *, callbacks: "Sequence[Callback]" = ()) -> TrainingResult:
    """Train as configured.

    Args:
        config: ``configs/train.yaml``, composed.
        callbacks: Of Lightning, called after this job's own.

    Returns:
        Where the run lies and how good it became.

    Raises:
        ConfigurationError: If a setting is wrong, the run folder may not be written, or there is nothing to resume.
        DatasetError: If the dataset is missing, unfinished or too small.
        TrainingError: If the loss left the numbers or ran away; the batch is saved.
        TrainingInterrupted: After Ctrl-C, when everything is saved.
    """
    began = time.monotonic()
    folder, dataset, earlier = open_job(config)

    # What imports torch waits until here, so that a mistake is answered at once.
    from training.assembly import compile_blocks, make_module, make_source
    from training.callbacks.bad_loss import StopOnBadLoss
    from training.callbacks.forecast import Forecast
    from training.callbacks.full_ranking import FullRankingValidation
    from training.datamodule import BatchDataModule
    from training.tracking.loggers import open_loggers, record_run
    from training.trainer import build_trainer, silence_what_is_meant
    from training.warm_start import WarmStart, open_earlier_run

    source = make_source(config, dataset)
    batches = BatchDataModule(source=source, num_workers=config.trainer.num_workers)
    validation = FullRankingValidation(
        dataset=dataset,
        max_sequence_length=config.batches.max_sequence_length,
        max_queries=config.validation.max_queries,
        ks=config.validation.ks,
    )
    module = make_module(config, dataset.spec, dataset=dataset)
    compile_blocks(module.model, mode=config.compile)
    with warnings.catch_warnings():
        silence_what_is_meant()
        # Only when nothing can be refused any more is an earlier run of this name deleted.
        guards: list[Callback] = [
            StopOnBadLoss(
                folder=folder,
                max_ratio=config.guard.max_loss_ratio,
                seed=config.seed,
                batch_after=batches.batch_after,
            ),
            Forecast(max_epochs=config.max_epochs, batch=lambda step: source.batch(0, step)),
        ]
        if earlier is not None:
            vocabulary = dataset.vocabulary_file
            found = open_earlier_run(earlier, vocabulary_file=vocabulary, model=module.model, config=config)
            guards.append(WarmStart(found))
        trainer = build_trainer(config, folder=folder, validation=validation, guards=guards, num_batches=len(source))
        if leads():
            prepare_run_folder(folder, resume=config.resume)
        with open_loggers(config.tracking, folder=folder, resume=config.resume) as trainer.loggers:
            if leads():
                record_run(trainer.loggers, config, describe_run(folder, config, dataset))
            trainer.callbacks.extend(callbacks)
            trainer.fit(
                module,
                datamodule=batches,
                ckpt_path=folder / LAST_CHECKPOINT if config.resume else None,
                weights_only=True,
            )
    best = trainer.checkpoint_callback.best_model_score
    return TrainingResult(
        folder=folder,
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        seconds=time.monotonic() - began,
        monitored=str(config.validation.monitor),
        best=float("nan") if best is None else float(best),
        metrics={name: float(value) for name, value in trainer.callback_metrics.items()},
    )


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
    dataset = ProcessedDataset.open(require_dataset(config.dataset, Path(config.data_dir)))
    if not config.side_features:
        dataset.spec = dataset.spec.ids_only()
    if leads():
        check_run_folder(folder, resume=config.resume, overwrite=config.overwrite)
    if config.resume:
        check_same_dataset(folder, dataset)
        check_same_model(folder, config)
    return Job(folder, dataset, find_earlier_run(config, folder))


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
        ("seed", 0),
        ("warmup_steps", 0),
        ("trainer.num_workers", 0),
    ):
        check_whole_number(config, key, at_least=least)
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


@hydra.main(version_base="1.3", config_path="../configs", config_name="train")
def main(config: DictConfig) -> None:
    """Train, and say in words how it ended."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    with one_sentence_errors():
        if config.overfit_one_batch:
            check_settings(config)
            from training.overfitting import overfit_one_batch

            smoke = overfit_one_batch(config)
            console.print(
                f"one batch is learned by heart: loss {smoke.first_loss:.4g} to {smoke.last_loss:.4g} in {smoke.steps} "
                f"steps, {smoke.seconds:.0f} s; nothing was written"
            )
            return
        config.name = name_in_multirun(config)
        try:
            result = hydra.utils.instantiate(config.launcher)(config)
        except TrainingInterrupted as interruption:
            if leads():
                console.print(f"{interruption}: continue with the same command and resume=true")
            raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    if not leads():
        return
    console.print(
        f"{result.epochs} epochs, {result.steps} steps in {result.seconds:.0f} s; "
        f"best {result.monitored} {result.best:.4f}; {result.folder}"
    )


if __name__ == "__main__":
    check_command_line("train")
    main()
