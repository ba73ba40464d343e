"""The smoke test of a model, a loss and an optimiser: can they learn one small batch by heart?"""

import time
from typing import Any, Final, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import move_data_to_device

from roomrec.batches.batch import ChosenItems
from roomrec.errors import TrainingError
from roomrec.losses.cosine_contrastive import CosineContrastive
from training.assembly import check_fit, make_module, make_source
from training.opening import open_dataset
from training.trainer import choose_device

MAX_EXAMPLES: Final = 16
"""Examples of the batch: few, so that hardly any two have equal histories and different targets."""

MAX_STEPS: Final = 1000
"""Steps after which the loss must have fallen."""

NEAR_ZERO: Final = 0.1
"""Share of the first loss, above what it cannot fall below, that counts as near zero."""


class Overfitted(NamedTuple):
    """How it went."""

    first_loss: float
    last_loss: float
    steps: int
    seconds: float


def overfit_one_batch(config: DictConfig) -> Overfitted:
    """Train on the first batch again and again, without dropout, until its loss is near zero. Nothing is written.

    Of whole users one target each is kept: no vectors have all of several targets alone on top.

    Args:
        config: ``configs/train.yaml``, composed.

    Raises:
        ConfigurationError: If a setting is wrong.
        DatasetError: If the dataset is missing, unfinished or too small.
        TrainingError: If the loss does not come near zero.
    """
    began = time.monotonic()
    small = {
        "batches": {"batch_size": min(config.batches.batch_size, MAX_EXAMPLES)},
        "warmup_steps": 0,
        "average_epochs": 0,
        "trainer": {"strategy": "auto"},
    }
    settings = OmegaConf.merge(config, small)
    assert isinstance(settings, DictConfig)
    dataset = open_dataset(settings)
    accelerator, _ = choose_device(settings.trainer.accelerator, settings.trainer.precision)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    source = make_source(settings, dataset)
    # without dropout, which would keep the loss from zero
    module = make_module(settings, dataset.spec, dataset=dataset).to(device).eval()
    check_fit(module, source)
    batch = move_data_to_device(_with_one_target_each(source.batch(0, 0)), device)
    floor = 0.0
    if isinstance(module.loss, CosineContrastive):
        floor = module.loss.floor(batch.candidates, num_items=batch.features.stride() - batch.num_users)
    optimizer = module.configure_optimizers()
    losses: list[float] = []
    for _ in range(MAX_STEPS + 1):
        loss = module.loss_of(batch)
        losses.append(float(loss.detach()))
        if losses[-1] - floor < NEAR_ZERO * (losses[0] - floor):
            return Overfitted(losses[0], losses[-1], len(losses) - 1, time.monotonic() - began)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    least = f", counted from the {floor:.4g} below which it cannot fall" if floor else ""
    raise TrainingError(
        f"the loss of one batch of {settings.batches.batch_size} fell from {losses[0]:.4g} to {losses[-1]:.4g} in "
        f"{MAX_STEPS} steps, not below {NEAR_ZERO:.0%} of where it began{least}: the model cannot learn even this by "
        f"heart. Is the learning rate right (optimizer.lr={settings.optimizer.lr}), does the loss see the targets, do "
        f"equal histories in the batch have different targets?"
    )


def _with_one_target_each(batch: Any) -> Any:
    """Keep the first target of each user; other batches have no more."""
    candidates = batch.candidates
    if not isinstance(candidates, ChosenItems):
        return batch
    user = candidates.positive_user
    first = torch.ones_like(user, dtype=torch.bool)
    first[1:] = user[1:] != user[:-1]
    return batch._replace(
        candidates=candidates._replace(positive=candidates.positive[first], positive_user=user[first])
    )
