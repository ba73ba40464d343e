"""What a person sees of training: a bar while an epoch runs in a terminal, one line when it is over everywhere."""

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class EpochLines(Callback):
    """Prints a line an epoch to stderr; in a terminal a bar shows how far the running one is.

    It must stand after the callback that logs the monitored metric.

    Args:
        monitored: Metric to show beside the loss.
        num_epochs: The most there can be.
        console: Where to write; stderr if not given.
    """

    def __init__(self, *, monitored: str, num_epochs: int, console: Console | None = None) -> None:
        self._monitored = monitored
        self._num_epochs = num_epochs
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self._progress: Progress | None = None
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count also where a resumed run goes on in the middle of an epoch, which then does not start."""
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show an empty bar."""
        self._began = time.monotonic()
        if self._console.is_terminal and trainer.is_global_zero:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.add_task(self._epoch(trainer), total=trainer.num_training_batches)
            self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Lengthen the bar."""
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the bar by a line."""
        self._stop()
        if trainer.is_global_zero:
            shown = dict.fromkeys(("train_loss_epoch", self._monitored))
            metrics = {name: trainer.callback_metrics[name] for name in shown if name in trainer.callback_metrics}
            numbers = "  ".join(f"{name.removesuffix('_epoch')} {float(value):.4f}" for name, value in metrics.items())
            self._console.print(f"{self._epoch(trainer)}  {numbers}  {time.monotonic() - self._began:.1f} s")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back."""
        self._stop()

    def _epoch(self, trainer: Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1} of at most {self._num_epochs}"

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
