"""The one LightningModule: a model, a loss, an optimiser, and the average of the weights that is evaluated."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn


class RecommenderModule(LightningModule):
    """Trains any model that can encode a batch's users and items.

    Randomness of a step (dropout, dropped ids) is derived from seed, step and rank, so that a resumed run repeats it.

    Args:
        model: Has ``training_vectors(batch)``, and ``batch_type`` that says of which batch.
        loss: Takes user vectors, item vectors and candidates that say who is compared with what, of its
            ``candidates_type``.
        optimizer: Makes the optimiser of parameters.
        seed: Seed of the run.
        warmup_steps: Over how many steps the learning rate rises from 0 to its value.
        average_epochs: Memory of the running average of the weights, in epochs, so that it means the same for a log of
            thirty steps an epoch as for one of thousands; 0 keeps none. With an average, it is what validation
            measures and what evaluation and export load.

    Reference:
        Izmailov et al. 2018 and Polyak & Juditsky 1992 for evaluating an average; the first steps are averaged over a
        shorter past, so that the beginning is forgotten, as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        seed: int,
        warmup_steps: int = 0,
        average_epochs: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.averaged: nn.Module | None = copy.deepcopy(model).requires_grad_(False) if average_epochs else None
        self._make_optimizer = optimizer
        self._seed = seed
        self._warmup_steps = warmup_steps
        self._average_epochs = average_epochs

    @property
    def evaluated(self) -> Any:
        """The model that counts: the average where one is kept."""
        return self.model if self.averaged is None else self.averaged

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Derive the randomness of this step."""
        torch.manual_seed(step_seed(self._seed, self.trainer.global_step, self.trainer.global_rank))

    def loss_of(self, batch: Any) -> Tensor:
        """Return the loss of one batch, outside a trainer, too."""
        user_PD, item_CD = self.model.training_vectors(batch)  # noqa: N806
        loss: Tensor = self.loss(user_PD, item_CD, batch.candidates)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        loss = self.loss_of(batch)
        self.log(
            "train_loss",
            loss,
            prog_bar=True,
            on_step=True,
            on_epoch=True,
            sync_dist=True,
            batch_size=len(batch.candidates.positive),
        )
        return loss

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then move the average, before anything can save a checkpoint."""
        super().optimizer_step(*args, **kwargs)
        if self.averaged is not None:
            step = self.trainer.global_step
            memory = max(self._average_epochs * self.trainer.num_training_batches, 1.0)
            decay = min(1.0 - 1.0 / memory, (1 + step) / (10 + step))
            averages: list[Tensor] = list(self.averaged.parameters())
            weights: list[Tensor] = list(self.model.parameters())
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1.0 - decay)

    def configure_optimizers(self) -> Any:
        """Return the optimiser, and its warm-up if there is one."""
        optimizer = self._make_optimizer(stepped_parameters(self.model))
        if not self._warmup_steps:
            return optimizer
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / self._warmup_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}


def step_seed(seed: int, global_step: int, rank: int) -> int:
    """Return the seed of a step's dropout: the same whenever the step is gone through."""
    return (seed * 1_000_003 + global_step) * 1_009 + rank


def stepped_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return what an optimiser has to step: all but the tables that trainer=sharded updates in the backward pass."""
    parameters = [value for value in module.parameters() if not value.is_meta and not is_updated_in_backward(value)]
    return parameters or [nn.Parameter(torch.empty(0))]  # an optimiser refuses to have nothing


def is_updated_in_backward(parameter: nn.Parameter) -> bool:
    """Say whether rows of a table are updated inside the backward pass, so that it never has a gradient."""
    return hasattr(parameter, "_in_backward_optimizers")
