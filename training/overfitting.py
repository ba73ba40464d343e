"""The smoke test of a model, a loss and an optimiser: can they learn one small batch by heart?"""

import time
from pathlib import Path
from typing import Final, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import move_data_to_device

from roomrec.errors import TrainingError
from roomrec.sequences.dataset import ProcessedDataset
from training.assembly import make_module, make_source
from training.settings import require_dataset
from training.trainer import choose_device

MAX_EXAMPLES: Final = 16
"""Examples of the batch: few, so that hardly any two have equal histories and different targets."""

MAX_STEPS: Final = 1000
"""Steps after which the loss must have fallen."""

NEAR_ZERO: Final = 0.1
"""Share of the first loss that counts as near zero."""


class Overfitted(NamedTuple):
    """How it went."""

    first_loss: float
    last_loss: float
    steps: int
    seconds: float


def overfit_one_batch(config: DictConfig) -> Overfitted:
    """Train on the first batch again and again, without dropout, until its loss is near zero. Nothing is written.

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
    dataset = ProcessedDataset.open(require_dataset(settings.dataset, Path(settings.data_dir)))
    accelerator, _ = choose_device(settings.trainer.accelerator, settings.trainer.precision)
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    batch = move_data_to_device(make_source(settings, dataset).batch(0, 0), device)
    # without dropout, which would keep the loss from zero
    module = make_module(settings, dataset.spec, dataset=dataset).to(device).eval()
    optimizer = module.configure_optimizers()
    losses: list[float] = []
    for _ in range(MAX_STEPS + 1):
        loss = module.loss_of(batch)
        losses.append(float(loss.detach()))
        if losses[-1] < NEAR_ZERO * losses[0]:
            return Overfitted(losses[0], losses[-1], len(losses) - 1, time.monotonic() - began)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise TrainingError(
        f"the loss of one batch of {settings.batches.batch_size} fell from {losses[0]:.4g} to {losses[-1]:.4g} in "
        f"{MAX_STEPS} steps, not below {NEAR_ZERO:.0%} of where it began: the model cannot learn even this by heart. "
        f"Is the learning rate right (optimizer.lr={settings.optimizer.lr}), does the loss see the targets, do equal "
        f"histories in the batch have different targets?"
    )
