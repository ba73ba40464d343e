"""Training batches for Lightning, from the very step at which training stands."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler


class BatchSource(Protocol):
    """All training batches of an epoch, each a pure function of (epoch, step)."""

    batch_type: type[tuple[Any, ...]]
    """of ``roomrec.batches.batch``; what the model has to read"""
    candidates_type: type[tuple[Any, ...]]
    """of ``roomrec.batches.batch``; what the loss has to read"""

    def __len__(self) -> int: ...

    def batch(self, epoch: int, step: int) -> Any:
        """Return one batch, ready for the model."""
        ...


class BatchDataModule(LightningDataModule):
    """Feeds a trainer with the batches of a source.

    Epoch and step follow from ``trainer.global_step`` alone, so a resumed run draws exactly the batches that an
    uninterrupted one would have drawn next. Each process of several takes every n-th batch; on another number of
    processes a run goes on behind the batches that were done, wherever they were done.

    Args:
        source: Where batches come from.
        num_workers: Processes that prepare batches; 0 prepares them between steps.
    """

    def __init__(self, *, source: BatchSource, num_workers: int) -> None:
        super().__init__()
        self._source = source
        self._num_workers = num_workers
        self._anchor = Position(global_step=0, epoch=0, batches=0)

    def train_dataloader(self) -> DataLoader:
        """Return the loader of training batches."""
        return DataLoader(
            _Steps(self._source),
            batch_size=None,
            sampler=self._sampler(),
            num_workers=self._num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self._num_workers > 0,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Copy a batch without waiting for it; Lightning by itself would wait for every tensor of a jagged one."""
        return _on_device(batch, device)

    def batch_after(self, global_step: int) -> tuple[int, int, Any]:
        """Return the batch that this process draws after so many steps: its epoch, its step and itself."""
        epoch, step = self._sampler().locate(global_step)
        return epoch, step, self._source.batch(epoch, step)

    def state_dict(self) -> dict[str, int]:
        """Return where training stands, in batches and not in steps."""
        assert self.trainer is not None
        position = self._sampler().position(self.trainer.global_step)
        return {"num_ranks": self.trainer.world_size, "num_batches": len(self._source), **position._asdict()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self._anchor = Position(**{name: state_dict[name] for name in Position._fields})

    def _sampler(self) -> "StepSampler":
        assert self.trainer is not None
        return StepSampler(
            num_batches=len(self._source),
            rank=self.trainer.global_rank,
            num_ranks=self.trainer.world_size,
            global_step=lambda: self.trainer.global_step,
            anchor=self._anchor,
        )


class Position(NamedTuple):
    """Where training stands: what was done when the optimiser had done so many steps."""

    global_step: int
    """steps of the optimiser"""
    epoch: int
    """finished epochs"""
    batches: int
    """batches of the running epoch that some process has done"""


class StepSampler(Sampler[tuple[int, int]]):
    """Names the (epoch, step) pairs still to come in this epoch.

    Args:
        num_batches: Batches of an epoch over all ranks; what does not divide evenly is left out this epoch, and the
            next one shuffles anew.
        rank: Which process this is.
        num_ranks: How many there are.
        global_step: Tells how many steps every process has done.
        anchor: Where this number of processes began to count.
    """

    def __init__(
        self,
        *,
        num_batches: int,
        rank: int,
        num_ranks: int,
        global_step: Callable[[], int],
        anchor: Position = Position(0, 0, 0),  # noqa: B008  (immutable)
    ) -> None:
        self._num_steps = max(num_batches // num_ranks, 1)
        self._num_batches = num_batches
        self._rank = rank
        self._num_ranks = num_ranks
        self._global_step = global_step
        self._anchor = anchor

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self._global_step()
        for step in range(first, first + self._steps_left(self.position(first).batches)):
            yield self.locate(step)

    def locate(self, global_step: int) -> tuple[int, int]:
        """Return the epoch and the step of the batch that this process draws after so many steps."""
        _, epoch, batches = self.position(global_step)
        return epoch, (batches + self._rank) % self._num_batches

    def position(self, global_step: int) -> Position:
        """Return where training stands after so many steps."""
        _, epoch, batches = self._anchor
        steps = global_step - self._anchor.global_step
        if steps >= (left := self._steps_left(batches)):
            epochs, steps = divmod(steps - left, self._num_steps)
            epoch, batches = epoch + 1 + epochs, 0
        return Position(global_step, epoch, batches + steps * self._num_ranks)

    def _steps_left(self, batches: int) -> int:
        return (self._num_batches - batches) // self._num_ranks if batches else self._num_steps


def _on_device(part: Any, device: torch.device) -> Any:
    """A batch, or a part of one, on a device: named tuples, tensors, jagged tensors and plain values."""
    if isinstance(part, tuple):
        return type(part)(*(_on_device(one, device) for one in part))
    # A copy from pinned memory to a CUDA device keeps its place in the device's order; others have none to keep.
    return part.to(device, non_blocking=device.type == "cuda") if hasattr(part, "to") else part


class _Steps(Dataset[Any]):
    def __init__(self, source: BatchSource) -> None:
        self._source = source

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self._source.batch(*key)
