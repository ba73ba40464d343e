"""Trains a model: ``python -m training.train model=sasrec dataset=beauty``."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import hydra
from omegaconf import DictConfig
from rich.console import Console

from training.configuration import INTERRUPTED_EXIT_CODE, check_command_line, one_sentence_errors
from training.multirun import name_in_multirun
from training.opening import check_settings, open_job
from training.run_folder import LAST_CHECKPOINT, TrainingInterrupted, describe_run, leads, prepare_run_folder

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
    from training.assembly import check_fit, compile_blocks, make_module, make_source
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
    check_fit(module, source)
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
