"""The loggers of a run as configured: made together, told what the run is, closed together."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from training.environment import without_minor_packages
from training.run_folder import leads
from training.settings import mistakes_in


@contextlib.contextmanager
def open_loggers(tracking: DictConfig, *, folder: Path, resume: bool) -> Iterator[list[Logger]]:
    """Open the loggers of a run, and close them however training ends.

    Of several processes the first alone writes; the others get a logger that does nothing.

    Args:
        tracking: By name, what makes each logger of a folder: ``configs/tracking``.
        folder: The run's, which exists.
        resume: Whether the run continues.

    Raises:
        ConfigurationError: If a tracker refuses or cannot be reached.
    """
    if not leads():
        yield [CSVLogger(folder, name="", version="")]
        return
    loggers: list[Logger] = []
    try:
        for name, target in tracking.items():
            with mistakes_in(f"tracking.{name}"):
                loggers.append(instantiate(target, folder=folder, resume=resume))
        yield loggers
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                # Otherwise the next run of this process, as in a sweep, would write into this one.
                logger.experiment.finish()


def record_run(loggers: Sequence[Logger], config: DictConfig, environment: dict[str, Any]) -> None:
    """Tell every tracker what the run is; the run's folder says it in ``config.yaml`` and ``environment.json``.

    Args:
        loggers: Open ones.
        config: ``configs/train.yaml``, composed.
        environment: What the run stands on, as ``describe_run`` says it.
    """
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    nested = {**settings, "environment": without_minor_packages(environment)}
    parameters = dict(_flat(nested))
    for logger in loggers:
        if isinstance(logger, MLFlowLogger):
            from training.tracking.mlflow_run import record_parameters

            record_parameters(logger, parameters)
        elif isinstance(logger, TensorBoardLogger):
            _record_in_tensorboard(logger, parameters, monitored=str(config.validation.monitor))
        elif not isinstance(logger, CSVLogger):
            logger.log_hyperparams(nested)


def _record_in_tensorboard(logger: TensorBoardLogger, parameters: Mapping[str, Any], *, monitored: str) -> None:
    """Fill the HPARAMS tab without logging a made-up first value of the metric, as Lightning would."""
    from torch.utils.tensorboard.summary import hparams

    plain = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in parameters.items()}
    for summary in hparams(plain, {monitored: 0.0}):
        logger.experiment.file_writer.add_summary(summary)


def _flat(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names with their values."""
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
