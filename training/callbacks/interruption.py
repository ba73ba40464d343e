"""Ctrl-C: finish the step, save, stop."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from training.run_folder import TrainingInterrupted


class SaveOnInterrupt(Callback):
    """Saves a checkpoint between two steps when the process receives SIGINT; a second SIGINT stops at once.

    Args:
        checkpoint: File to write.
    """

    def __init__(self, *, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._asked = False
        self._previous: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen for SIGINT; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._remember)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give SIGINT back."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, unless the epoch is over anyway and saves itself."""
        if batch_idx + 1 < trainer.num_training_batches and self._all_stop(trainer):
            trainer.save_checkpoint(self._checkpoint)
            raise TrainingInterrupted(f"stopped after step {trainer.global_step}, saved {self._checkpoint}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch that saved itself."""
        if self._all_stop(trainer):
            raise TrainingInterrupted(f"stopped after step {trainer.global_step}, saved {self._checkpoint}")

    def ask(self) -> None:
        """Ask as the first SIGINT does."""
        self._asked = True

    def _all_stop(self, trainer: Trainer) -> bool:
        """Say whether any process was asked; all of several have to stop at the same step."""
        if trainer.world_size == 1:
            return self._asked
        return bool(trainer.strategy.reduce_boolean_decision(self._asked, all=False))

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise TrainingInterrupted("stopped at once, only finished epochs are saved")
        self._asked = True
