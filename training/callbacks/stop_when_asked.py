"""Stopping a run that no keyboard reaches: somebody asks from elsewhere."""

import time
from collections.abc import Callable
from typing import Any, Final

from pytorch_lightning import Callback, LightningModule, Trainer

from training.callbacks.interruption import SaveOnInterrupt

_EVERY_S: Final = 1.0


class StopWhenAsked(Callback):
    """Looks once a second whether training shall stop, and then does what Ctrl-C does.

    Args:
        is_asked: Says whether it shall.
    """

    def __init__(self, is_asked: Callable[[], bool]) -> None:
        self._is_asked = is_asked
        self._looked_at = float("-inf")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Look."""
        if time.monotonic() - self._looked_at < _EVERY_S:
            return
        self._looked_at = time.monotonic()
        if self._is_asked():
            next(one for one in trainer.callbacks if isinstance(one, SaveOnInterrupt)).ask()
