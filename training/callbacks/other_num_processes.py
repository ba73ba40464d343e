"""Resuming on more or fewer processes than wrote the checkpoint: where in the epoch that is."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from training.datamodule import BatchDataModule


class OtherNumProcesses(Callback):
    """Counts the steps of an interrupted epoch anew, since other processes share its batches out differently.

    Every batch that was trained stays trained, and none is trained twice.
    """

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Change what the checkpoint says of the epoch's steps."""
        position = checkpoint.get(BatchDataModule.__qualname__)
        if position is None or position["num_ranks"] == trainer.world_size:
            return
        num_batches = position["num_batches"]
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        was_over = progress["ready"] >= max(num_batches // position["num_ranks"], 1)
        num_steps = max(num_batches // trainer.world_size, 1)
        left = 0 if was_over else (num_batches - position["batches"]) // trainer.world_size
        fewer = progress["ready"] - num_steps + left  # a step that is just saved is not completed yet, and stays so
        progress.update({name: count - fewer for name, count in progress.items()})
