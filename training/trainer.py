"""The Lightning trainer of a run: device, precision, loggers, checkpoints, early stopping."""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy, Strategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from roomrec.errors import ConfigurationError
from training.callbacks.epoch_lines import EpochLines
from training.callbacks.interruption import SaveOnInterrupt
from training.callbacks.other_num_processes import OtherNumProcesses
from training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT
from training.settings import mistakes_in
from training.sharding.settings import is_sharded, read_table_settings


def build_trainer(
    config: DictConfig, *, folder: Path, validation: Callback, guards: Sequence[Callback], num_batches: int
) -> Trainer:
    """Put a trainer together, without loggers; nothing is written yet.

    Args:
        config: ``configs/train.yaml``, composed.
        folder: The run's folder.
        validation: Logs the monitored metric after every epoch.
        guards: Watch the steps, and stop before anything is validated or saved.
        num_batches: Batches of an epoch.

    Raises:
        ConfigurationError: If the config asks for a device the machine does not have, or Lightning refuses a setting.
    """
    accelerator, precision = choose_device(config.trainer.accelerator, config.trainer.precision)
    monitored = str(config.validation.monitor)
    mode = "min" if "loss" in monitored else "max"
    checkpoints = folder / BEST_CHECKPOINT.parent
    callbacks = [
        *guards,
        validation,
        OtherNumProcesses(),
        SaveOnInterrupt(checkpoint=folder / LAST_CHECKPOINT),
        EpochLines(monitored=monitored, num_epochs=config.max_epochs),
        EarlyStopping(monitored, mode=mode, patience=config.patience, check_on_train_epoch_end=True),
        ModelCheckpoint(
            checkpoints,
            filename=BEST_CHECKPOINT.stem,
            monitor=monitored,
            mode=mode,
            save_last=True,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    devices, num_nodes = started_by_launcher() or (config.trainer.devices, 1)
    with mistakes_in("trainer", MisconfigurationException):
        return Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=_strategy(config, accelerator, precision),
            precision=precision,
            max_epochs=config.max_epochs,
            logger=False,
            callbacks=callbacks,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            log_every_n_steps=min(50, num_batches),
        )


def started_by_launcher() -> tuple[int, int] | None:
    """Return processes a node and nodes, if torchrun or Ray Train started this process.

    Raises:
        ConfigurationError: If this node has another number of processes than the others.
    """
    if not torch.distributed.is_torchelastic_launched():
        return None
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if world % local:
        raise ConfigurationError(
            f"{world} processes were started, {local} of them on this node, so other nodes have another number: start "
            "equally many on each, by torchrun's --nproc-per-node or a launcher.num_workers that divides evenly"
        )
    return local, world // local


def _strategy(config: DictConfig, accelerator: str, precision: str) -> str | Strategy:
    if is_sharded(config):
        return _sharded_strategy(config, accelerator, precision)
    if config.trainer.strategy == "ddp":
        # Buffers are not sent with every step, they are the same everywhere: what is known of products is read from the
        # dataset by every process, and folded tables are computed from weights, which DDP keeps equal.
        return DDPStrategy(forward_sync_buffers=False)
    return str(config.trainer.strategy)


def _sharded_strategy(config: DictConfig, accelerator: str, precision: str) -> Strategy:
    from training.sharding.strategy import ShardedStrategy

    device = "cuda" if accelerator == "gpu" else accelerator
    tables = read_table_settings(config.trainer.tables, device=device, precision=precision)
    return ShardedStrategy(tables=tables, seed=config.seed)


def choose_device(accelerator: str, precision: str) -> tuple[str, str]:
    """Settle ``auto``: bf16 where the hardware multiplies matrices in it (CUDA devices, CPUs with AMX), or float32.

    Args:
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        precision: ``auto`` or one of Lightning's.

    Raises:
        ConfigurationError: If ``gpu`` is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if accelerator == "gpu" and not has_cuda:
        raise ConfigurationError("trainer=gpu needs a CUDA device and a CUDA build of torch: use trainer=cpu")
    if accelerator == "auto":
        accelerator = "gpu" if has_cuda else "cpu"
    if precision == "auto":
        on_cpu = bool(torch.cpu.get_capabilities().get("amx_bf16"))
        in_bf16 = torch.cuda.is_bf16_supported() if accelerator == "gpu" else on_cpu
        precision = "bf16-mixed" if in_bf16 else "32-true"
    return accelerator, precision


def silence_what_is_meant() -> None:
    """Leave out what libraries say about choices made here on purpose; importing them has set their levels."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
    for message in (
        ".*does not have many workers.*",  # a batch takes a few milliseconds of numpy
        ".*your dataloader is not resumable.*",  # it starts at the step the trainer stands at
        ".*Checkpoint directory .* exists and is not empty.*",  # a resumed run writes where it was
        ".*is smaller than the logging interval.*",  # a rank has fewer batches than the epoch
        ".*GPU available but not used.*",  # trainer=cpu says so
        ".*Please use DTensor instead.*",  # TorchRec splits tables into ShardedTensors
        ".*isinstance.treespec, LeafSpec.. is deprecated.*",  # inside Lightning, with this torch
        ".*Experiment logs directory .* exists and is not empty.*",  # it holds what this run has just put there
        ".*``noload`` loader strategy is deprecated.*",  # inside MLflow, with this SQLAlchemy
        "MLFlow only allows .* characters in metric name.*",  # val_ndcg@10 is val_ndcg10 there
    ):
        warnings.filterwarnings("ignore", message=message)
