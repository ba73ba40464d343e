"""What every run writes into its own folder: ``metrics.csv`` and a TensorBoard log."""

import csv
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger


def metrics_csv(*, folder: Path, resume: bool) -> CSVLogger:
    """Return a logger that writes ``metrics.csv``; after a resume it goes on below the rows that are there.

    Args:
        folder: The run's, which exists.
        resume: Whether the run continues.
    """
    rows = (folder / "metrics.csv").read_text() if resume and (folder / "metrics.csv").exists() else ""
    (folder / "metrics.csv").unlink(missing_ok=True)
    logger = CSVLogger(folder, name="", version="")
    writer: Any = logger.experiment
    if rows:
        (folder / "metrics.csv").write_text(rows)
        writer.metrics_keys = next(csv.reader(rows.splitlines()))
    return logger


def tensorboard(*, folder: Path, resume: bool) -> TensorBoardLogger:
    """Return a logger that writes into ``tensorboard/``; a resumed run adds a file there.

    Args:
        folder: The run's, which exists.
        resume: Whether the run continues.
    """
    return TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
