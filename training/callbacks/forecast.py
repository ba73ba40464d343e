"""What a run will take, said after its first steps: time from their clock, memory from what they took."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from training.modules.recommender import is_updated_in_backward

_SETTLE_STEPS: Final = 3
_TIMED_STEPS: Final = 30
_TIMED_SECONDS: Final = 10.0
_LOOKED_AT: Final = 16


class Forecast(Callback):
    """Prints how long an epoch and the run will take and how much memory, once the first steps are over.

    It only watches: the steps are those that training does anyway, so nothing of the result changes. Time is that of
    up to thirty steps, or ten seconds, after three that warm up; validation comes on top. Memory is the largest the
    process has had, plus what a larger batch than those seen takes more than they did: sixteen batches spread over the
    epoch are looked at to find out how large they become. A run that is over by then says nothing.

    Args:
        max_epochs: The most there can be.
        batch: Gives the batch of a step of the first epoch.
        console: Where to write; stderr if not given.
    """

    def __init__(self, *, max_epochs: int, batch: Callable[[int], Any], console: Console | None = None) -> None:
        self._max_epochs = max_epochs
        self._batch = batch
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)
        self._sizes: list[int] = []
        self._largest_seen = 0
        self._activations = 0
        self._rest = 0
        self._steps = 0
        self._clock = 0.0
        self._seconds = 0.0
        self._over = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say at once if the weights alone do not fit, and look at how large batches are."""
        self._over = self._max_epochs * trainer.num_training_batches <= _SETTLE_STEPS + _TIMED_STEPS
        if self._over or not trainer.is_global_zero:
            return
        needed, free = weight_bytes(pl_module), free_memory()
        if pl_module.device.type == "cpu" and needed > free:
            self._console.print(
                f"[bold red]weights, gradients and the optimiser take {words(needed)}, and {words(free)} are free:[/] "
                f"lower model.embedding_dim, or know fewer ids (vocabulary.min_count of training.preprocess)"
            )
        num_batches = int(trainer.num_training_batches)
        steps = range(0, num_batches, max(num_batches // _LOOKED_AT, 1))
        self._sizes = [batch_bytes(self._batch(step)) for step in steps[:_LOOKED_AT]]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock anew: what was between two epochs is no step."""
        self._clock = time.monotonic()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Note what the forward pass holds for the backward pass."""
        if not self._over and pl_module.device.type == "cpu":
            self._activations = max(self._activations, memory_of("VmRSS") - self._rest)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note what there is without the activations."""
        if not self._over:
            self._largest_seen = max(self._largest_seen, batch_bytes(batch))
            self._rest = memory_of("VmRSS")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the clock, and speak when enough is known."""
        if self._over:
            return
        self._steps += 1
        before, self._clock = self._clock, time.monotonic()
        if self._steps <= _SETTLE_STEPS:
            self._activations = 0
            return
        self._seconds += self._clock - before
        timed = self._steps - _SETTLE_STEPS
        if timed < _TIMED_STEPS and self._seconds < _TIMED_SECONDS:
            return
        self._over = True
        if trainer.is_global_zero:
            self._say(trainer, pl_module, self._seconds / timed)

    def _say(self, trainer: Trainer, pl_module: LightningModule, step_s: float) -> None:
        num_steps = int(trainer.num_training_batches)
        left = self._max_epochs - trainer.current_epoch
        num_weights = sum(weight.numel() for weight in pl_module.parameters() if weight.requires_grad)
        growth = max(max(self._sizes, default=0) / max(self._largest_seen, 1), 1.0) - 1.0
        if pl_module.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(pl_module.device)
            memory = f"{words(int(peak * (1 + growth)))} of GPU memory"
        else:
            memory = f"{words(memory_of('VmHWM') + int(growth * self._activations))} of memory"
        self._console.print(
            f"{num_weights:,} weights, {words(weight_bytes(pl_module))} with gradients and optimiser; {num_steps} "
            f"steps an epoch at {step_s * 1000:.0f} ms: about {duration(num_steps * step_s)} an epoch and at most "
            f"{duration(left * num_steps * step_s)} for {left}, validation not counted; about {memory}"
        )


def weight_bytes(module: LightningModule) -> int:
    """Return the bytes of weights, gradients, what the optimiser keeps (as Adam: twice the weights) and averages."""
    total = 0
    for weight in module.parameters():
        is_stepped = weight.requires_grad and not is_updated_in_backward(weight)
        total += weight.numel() * weight.element_size() * (4 if is_stepped else 1)
    return total


def batch_bytes(batch: Any) -> int:
    """Return the bytes of all tensors of a batch."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(batch))


def memory_of(field: str) -> int:
    """Return bytes of a field of ``/proc/self/status``, 0 where there is no such file."""
    return _kilobytes(Path("/proc/self/status"), field) * 1024


def free_memory() -> int:
    """Return the bytes that a process can still get, without limit where the system does not say."""
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable") * 1024 or 1 << 62


def words(num_bytes: int) -> str:
    """Say a number of bytes.

    Example:
        >>> words(123_456_789), words(2_500_000_000)
        ('123 MB', '2.5 GB')
    """
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Say a time.

    Example:
        >>> duration(9.94), duration(600), duration(9_000)
        ('9.9 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for field in value:
            yield from _tensors(field)
    elif hasattr(value, "values") and hasattr(value, "lengths"):  # a KeyedJaggedTensor
        yield from (value.values(), value.lengths())


def _kilobytes(path: Path, field: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
