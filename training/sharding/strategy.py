"""A Lightning strategy: tables split by TorchRec, dense layers as in DDP, checkpoints as of one process."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from roomrec.errors import ConfigurationError
from training.sharding.plan import SplitTables
from training.sharding.settings import TableSettings

_TABLES = "tables"
"""Key of what the tables' optimiser keeps, in the optimiser state of a checkpoint."""


class ShardedStrategy(DDPStrategy):
    """Splits the big tables of ``module.model``; updates their rows inside the backward pass.

    A checkpoint holds what a run in one process would have written, whatever the number of processes, so any number
    may resume it and everything that reads runs reads it. Process 0 puts it together, and validates, in its host
    memory: that must hold the tables once.

    Args:
        tables: How to split.
        seed: Of the run.
        **kwargs: For ``DDPStrategy``.
    """

    def __init__(self, *, tables: TableSettings, seed: int, **kwargs: Any) -> None:
        super().__init__(forward_sync_buffers=False, **kwargs)  # as with trainer=ddp
        self._settings = tables
        self._seed = seed
        self._tables: SplitTables | None = None
        self._skeleton: nn.Module | None = None
        self._group: dist.ProcessGroup | None = None

    @property
    def tables(self) -> SplitTables:
        """The split tables."""
        assert self._tables is not None, "the tables are split in setup"
        return self._tables

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Rows are read where they belong."""
        return True

    def setup(self, trainer: Trainer) -> None:
        """Split the tables, then do as DDP does."""
        model = self._module.model
        if self.root_device.type != "cpu":
            self._group = dist.new_group(backend="gloo")
        self._skeleton = copy.deepcopy(model)
        self._tables = SplitTables(model, settings=self._settings, device=self.root_device, seed=self._seed)
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Average gradients of what is not split, if there is anything."""
        module = self._module
        split = {
            name
            for group in (module.named_parameters(), module.named_buffers())
            for name, _ in group
            if self._is_split(name)
        }
        dense = any(value.requires_grad for name, value in module.named_parameters() if name not in split)
        if dense and self.world_size > 1:
            ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
            ignore(module, list(split))  # type: ignore[no-untyped-call]
            super().configure_ddp()

    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        """Let the tables' learning rate follow the schedule of the dense layers' before rows are updated."""
        group = optimizer.param_groups[0]
        self.tables.set_learning_rate(group["lr"] / (group.get("initial_lr") or group["lr"]))
        return super().optimizer_step(optimizer, closure, model, **kwargs)

    def whole_model(self) -> nn.Module | None:
        """Return the model with every row of its tables in process 0, None in the others; every process must call."""
        state = self._whole_state()
        if not self.is_global_zero:
            return None
        assert self._skeleton is not None
        whole = copy.deepcopy(self._skeleton)
        whole.load_state_dict(
            {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")},
            assign=True,
        )
        return whole.train(self._module.model.training)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Return what a run in one process has; without the tables' rows in processes that do not write."""
        return self._whole_state()

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """Return the state of the dense layers' optimiser and, beside it, that of the tables'."""
        state = dict(super().optimizer_state(optimizer))
        return state | {_TABLES: self.tables.gather_states(self._group)}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Map a checkpoint from disk, so that a process reads its own rows only."""
        checkpoint: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=True)
        return checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write straight to disk: Lightning would make the file in memory first."""
        if self.is_global_zero:
            part = Path(filepath).with_suffix(".part")
            part.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, part)
            part.replace(filepath)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Fill this process's rows and all that is not split.

        Raises:
            ConfigurationError: If the checkpoint is of another model.
        """
        saved, dense = checkpoint["state_dict"], self._dense_state()
        tables = {f"model.{name}" for names in self.tables.aliases.values() for name in names}
        if set(saved) != dense.keys() | tables:
            different = sorted(set(saved) ^ (dense.keys() | tables))
            raise ConfigurationError(f"the checkpoint is of another model: they differ in {', '.join(different[:3])}")
        for name, value in dense.items():
            value.copy_(saved[name])
        self.tables.fill({name.removeprefix("model."): value for name, value in saved.items()})

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore both optimisers.

        Raises:
            ConfigurationError: If the tables were trained by another kind of trainer.
        """
        states = [dict(state) for state in checkpoint["optimizer_states"]]
        tables = [state.pop(_TABLES, None) for state in states]
        if tables[0] is None:
            raise ConfigurationError(
                "this run was not trained with trainer=sharded, whose optimiser keeps other things: resume it with the "
                "trainer it began with, or begin a new run with its weights by warm_start=..."
            )
        super().load_optimizer_state_dict({"optimizer_states": states})
        self.tables.fill_states(tables[0])

    def teardown(self) -> None:
        """Leave the model where it is: Lightning would move it to the CPU, and split tables do not move."""
        module, self._lightning_module = self._lightning_module, None
        try:
            super().teardown()
        finally:
            self._lightning_module = self.model = module

    @property
    def _module(self) -> Any:
        module = self.lightning_module
        assert isinstance(module, LightningModule)
        return module

    def _is_split(self, name: str) -> bool:
        return any(name.startswith(f"model.{prefix}") for prefix in self.tables.prefixes)

    def _dense_state(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._module.state_dict().items() if not self._is_split(name)}

    def _whole_state(self) -> dict[str, Tensor]:
        """Everything on the CPU, where the gathered rows are: a model whose weights lie on two devices does not run."""
        tables = self.tables.gather(self._group)
        dense = {name: value.cpu() for name, value in self._dense_state().items()}
        return dense | {f"model.{name}": value for name, value in tables.items()}
