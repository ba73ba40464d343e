"""The one LightningModule: a model, a loss, an optimiser."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from roomrec.models.scoring import score_candidates


class RecommenderModule(LightningModule):
    """Trains any model that can encode a batch's users and items.

    Randomness of a step (dropout, dropped ids) is derived from seed, step and rank, so that a resumed run repeats it.

    Args:
        model: Has ``training_vectors(batch)``.
        loss: Takes logits of positives, logits of negatives, and which negatives are real.
        optimizer: Makes the optimiser of parameters.
        seed: Seed of the run.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self._make_optimizer = optimizer
        self._seed = seed

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Derive the randomness of this step."""
        torch.manual_seed((self._seed * 1_000_003 + self.trainer.global_step) * 1_009 + self.trainer.global_rank)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        user_PD, item_CD = self.model.training_vectors(batch)  # noqa: N806
        positive_P, negative_PN = score_candidates(user_PD, item_CD, batch.candidates)  # noqa: N806
        loss: Tensor = self.loss(positive_P, negative_PN, batch.candidates.real)
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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return self._make_optimizer(self.parameters())
