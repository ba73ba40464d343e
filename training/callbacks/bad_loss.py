"""A loss that leaves the numbers, or runs away: stop before it costs a night, and keep the batch that did it."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from roomrec.errors import TrainingError
from training.modules.recommender import is_updated_in_backward
from training.saved_batch import SavedBatch, save_batch

WARM_UP_STEPS: Final = 20
"""Losses that are seen before one can be called too high; their mean is what training began with."""

_DECAY = 0.98
_STEPS_AT_ONCE = 50


class LossWatch:
    """Says what is wrong with a loss, from the losses before it.

    Args:
        max_ratio: A loss above this many times the running mean, and above what training began with, is wrong; None
            looks for numbers that are not finite alone.

    Example:
        >>> watch = LossWatch(max_ratio=10)
        >>> [watch.problem_of(loss, 1.0) for loss in [6.0] * 20]  == [None] * 20
        True
        >>> watch.problem_of(61.0, 1.0)
        'the loss is 61, more than 10 times its running mean of 6'
        >>> watch.problem_of(6.0, float("inf"))
        "the gradient's norm is inf"
    """

    def __init__(self, *, max_ratio: float | None) -> None:
        self._max_ratio = max_ratio
        self._num_seen = 0
        self._mean = 0.0
        self._began_with = 0.0

    def problem_of(self, loss: float, gradient_norm: float) -> str | None:
        """Return what is wrong with a step, None if nothing is; steps come in order."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the gradient's norm is {gradient_norm}"
        if self._num_seen < WARM_UP_STEPS:
            self._mean = self._began_with = (self._mean * self._num_seen + loss) / (self._num_seen + 1)
        elif self._max_ratio is not None and loss > max(self._max_ratio * self._mean, self._began_with):
            return f"the loss is {loss:.4g}, more than {self._max_ratio:g} times its running mean of {self._mean:.4g}"
        else:
            self._mean = _DECAY * self._mean + (1 - _DECAY) * loss
        self._num_seen += 1
        return None


class StopOnBadLoss(Callback):
    """Stops training at a bad step, before the optimiser takes it, and saves the batch for a replay.

    On a CPU each step is judged as it comes. On another device the numbers stay there and are judged fifty steps at a
    time, so that training never waits for them; the batch is then made again from its epoch and step, which is exact.
    Whatever still waits is judged before a checkpoint is written, so that none is of broken weights.

    It must stand before callbacks that act on the end of an epoch, so that they see judged weights only.

    Args:
        folder: Of the run; batches go into ``stopped/`` below it.
        max_ratio: As ``LossWatch`` takes it.
        seed: Of the run.
        batch_after: Gives epoch, step and batch that are drawn after so many steps.
    """

    def __init__(
        self,
        *,
        folder: Path,
        max_ratio: float | None,
        seed: int,
        batch_after: Callable[[int], tuple[int, int, Any]],
    ) -> None:
        self._folder = folder
        self._watch = LossWatch(max_ratio=max_ratio)
        self._seed = seed
        self._batch_after = batch_after
        self._loss: Tensor | None = None
        self._waiting: list[tuple[int, Tensor, Tensor]] = []

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Remember the step's loss."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Judge the step, or put it aside until fifty have come."""
        assert self._loss is not None
        norm = gradient_norm(pl_module.parameters(), device=self._loss.device)
        self._waiting.append((trainer.global_step, self._loss, norm))
        if self._loss.device.type == "cpu" or len(self._waiting) == _STEPS_AT_ONCE:
            self._judge(trainer, pl_module, stepped=self._loss.device.type != "cpu")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judge what was put aside, before the weights are validated."""
        self._judge(trainer, pl_module, stepped=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Judge what was put aside, before the file is written, also in the middle of an epoch."""
        self._judge(trainer, pl_module, stepped=True)
        # The process that writes waits for the others, one of which may have found its loss to be bad and has stopped.
        trainer.strategy.barrier("every process has judged its steps")

    def _judge(self, trainer: Trainer, pl_module: LightningModule, *, stepped: bool) -> None:
        if not self._waiting:
            return
        numbers = torch.stack([torch.stack([loss.float(), norm.float()]) for _, loss, norm in self._waiting]).tolist()
        steps = [step for step, _, _ in self._waiting]
        self._waiting = []
        for global_step, (loss, norm) in zip(steps, numbers, strict=True):
            if problem := self._watch.problem_of(loss, norm):
                self._stop(trainer, pl_module, global_step, problem, stepped=stepped)

    def _stop(
        self, trainer: Trainer, pl_module: LightningModule, global_step: int, problem: str, *, stepped: bool
    ) -> None:
        epoch, step, batch = self._batch_after(global_step)
        path = self._folder / "stopped" / f"step-{global_step}-rank-{trainer.global_rank}.pt"
        model: Any = pl_module.model
        stepped = stepped or any(map(is_updated_in_backward, model.parameters()))
        saved = SavedBatch(
            batch=batch,
            weights=None if stepped else {name: value.cpu() for name, value in model.state_dict().items()},
            seed=self._seed,
            epoch=epoch,
            step=step,
            global_step=global_step,
            rank=trainer.global_rank,
            precision=str(trainer.precision),
            reason=problem,
        )
        save_batch(path, saved)
        raise TrainingError(
            f"training stopped at step {global_step + 1}, batch {step} of epoch {epoch + 1}: {problem}. Look at it "
            f"with `python -m training.replay batch={path}`; then try a lower optimizer.lr, a longer warmup_steps, or "
            f"trainer.precision=32-true (guard.max_loss_ratio says how high a loss may jump)"
        )


def gradient_norm(weights: Iterable[nn.Parameter], *, device: torch.device | None = None) -> Tensor:
    """Return the norm of the gradients of some weights.

    Args:
        weights: Those without a gradient are left out; of a sparse gradient its values count.
        device: Where the answer lies if there is no gradient at all, as where every table is updated in the backward
            pass; the CPU if not given.

    Returns:
        A scalar on the device of the gradients.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    dense = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
    return torch.nn.utils.get_total_norm(dense) if dense else torch.zeros((), device=device)
