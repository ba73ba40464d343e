"""Which process holds which rows, and the tables that result."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor, nn
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder, ShardedEmbeddingBagCollection
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError
from torchrec.distributed.types import ShardingEnv, ShardingPlan, ShardingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection

from roomrec.errors import ConfigurationError
from training.sharding.even_strides import EvenStrides
from training.sharding.lookup import LookUp
from training.sharding.rows import InitRows, fill_rows, gather_rows, initialise_rows
from training.sharding.settings import OPTIMIZERS, TableSettings

_EPSILON: Final = 1e-8
"""Added to the root of what Adagrad has summed up."""

_RESERVED: Final = 0.15
"""Share of the memory that tables may not take."""


@contextlib.contextmanager
def big_tables_on_meta(*, min_rows: int) -> Iterator[None]:
    """While it is entered, tables with many rows are made without memory: no process ever holds a whole one.

    Args:
        min_rows: Rows from which a table is big.
    """
    kinds: list[Any] = [nn.Embedding, nn.EmbeddingBag]
    constructors = [kind.__init__ for kind in kinds]

    def without_memory(constructor: Any) -> Any:
        def construct(self: nn.Module, num_embeddings: int, *args: Any, **kwargs: Any) -> None:
            if num_embeddings >= min_rows:
                kwargs["device"] = "meta"
            constructor(self, num_embeddings, *args, **kwargs)

        return construct

    try:
        for kind, constructor in zip(kinds, constructors, strict=True):
            kind.__init__ = without_memory(constructor)
        yield
    finally:
        for kind, constructor in zip(kinds, constructors, strict=True):
            kind.__init__ = constructor


class _BagSharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]
    """Splits by rows on the CPU too, which TorchRec does but does not offer."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [kind.value for kind in (ShardingType.TABLE_WISE, ShardingType.ROW_WISE)]


class SplitTables:
    """The tables of a model, split over all processes; made in place of the model's own.

    Every ``EmbeddingBagCollection`` of the model is split, and every ``nn.Embedding`` of at least ``min_rows`` rows.
    Names are those of the model before.

    Args:
        model: Built while ``big_tables_on_meta`` was entered.
        settings: How.
        device: Where this process holds its rows.
        seed: Of the run; decides the first value of every row, whatever the number of processes.

    Raises:
        ConfigurationError: If the tables do not fit, or cannot be split as asked.
    """

    def __init__(self, model: nn.Module, *, settings: TableSettings, device: torch.device, seed: int) -> None:
        self._lr = settings.lr
        init_rows = _replace_big_embeddings(model, min_rows=settings.min_rows)
        found = _collections(model)
        holder = nn.ModuleDict({str(number): collection for number, collection in enumerate(found)})
        for collection in holder.values():
            collection.to("meta")  # what is small begins anew too; TorchRec wants all tables of a collection alike
            if isinstance(collection, EmbeddingBagCollection):
                for config in collection.embedding_bag_configs():
                    init_rows[config.name], config.init_fn = config.init_fn, _leave
        self._parallel = _shard(holder, settings=settings, device=device)
        for (places, _), collection in zip(found.values(), holder.values(), strict=True):
            if isinstance(collection, ShardedEmbeddingBagCollection) and dist.get_backend() == "gloo":
                EvenStrides(collection)
            for parent, attribute in places:
                setattr(parent, attribute, collection)
        self.prefixes = [prefix for _, prefixes in found.values() for prefix in prefixes]
        """Prefixes of every name below the collections, as they are now"""
        self._names = {
            name: _plain_names(name, list(found.values())[int(name.split(".")[0])][1]) for name in holder.state_dict()
        }
        self.weights: dict[str, ShardedTensor] = {}
        """Every table by its first name before"""
        self.aliases: dict[str, list[str]] = {}
        """All its names before"""
        for name, table in holder.state_dict().items():
            first, *_ = names = self._names[name]
            self.weights[first], self.aliases[first] = table, names
            initialise_rows(table, init_rows[name.split(".")[-2]], seed=seed, name=name.split(".")[-2])

        self._state_metadata = _tell_each_other(
            {name: {key: value.metadata() for key, value in state.items()} for name, state in self.states.items()}
        )

    @property
    def states(self) -> dict[str, dict[str, ShardedTensor]]:
        """What the optimiser keeps of the tables this process has rows of, by the table's name and its own."""
        return {
            self._names[name][0]: {key.rpartition(".")[2]: value for key, value in state.items()}
            for name, state in self._parallel.fused_optimizer.state_dict()["state"].items()
            if state
        }

    def set_learning_rate(self, scale: float) -> None:
        """Multiply the configured learning rate."""
        optimizer = self._parallel.fused_optimizer
        if any(group["lr"] != self._lr * scale for group in optimizer.param_groups):
            for group in optimizer.param_groups:
                group["lr"] = self._lr * scale
            optimizer.step()  # hands the rate to the kernels; rows were updated inside the backward pass

    def gather(self, group: dist.ProcessGroup | None) -> dict[str, Tensor]:
        """Return all tables under all their names in process 0, nothing in the others."""
        return {
            name: whole
            for first, table in self.weights.items()
            if (whole := gather_rows(table.metadata(), table, group)) is not None
            for name in self.aliases[first]
        }

    def gather_states(self, group: dist.ProcessGroup | None) -> dict[str, dict[str, Tensor]]:
        """Return what the optimiser keeps of each table in process 0, nothing in the others."""
        own = self.states
        gathered: dict[str, dict[str, Tensor]] = {}
        for name, metadata_of in self._state_metadata.items():
            for key, metadata in metadata_of.items():
                whole = gather_rows(metadata, own.get(name, {}).get(key), group)
                if whole is not None:
                    gathered.setdefault(name, {})[key] = whole
        return gathered

    def fill(self, weights: Mapping[str, Tensor], *, sources: Mapping[str, Tensor] | None = None) -> None:
        """Take rows from whole tables; see ``fill_rows``."""
        for name, table in self.weights.items():
            if name in weights:
                fill_rows(table, weights[name], source=(sources or {}).get(name))

    def fill_states(
        self, states: Mapping[str, Mapping[str, Tensor]], *, sources: Mapping[str, Tensor] | None = None
    ) -> None:
        """Take what the optimiser keeps of each row from whole tensors."""
        for name, state in self.states.items():
            for key, value in state.items():
                if key in states.get(name, {}):
                    source = (sources or {}).get(name)
                    per_row = value.metadata().size[:1] == self.weights[name].metadata().size[:1]
                    fill_rows(value, states[name][key], source=source if per_row else None)


def _leave(rows: Tensor) -> None:
    """Stand for a table's own initialisation, which TorchRec would repeat on what each process holds."""


def _replace_big_embeddings(model: nn.Module, *, min_rows: int) -> dict[str, InitRows]:
    """Put a LookUp in the place of every big ``nn.Embedding``; return how their rows begin."""
    init_rows: dict[str, InitRows] = {}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Embedding) and child.num_embeddings >= min_rows:
                begin = getattr(child, "init_rows", None)
                if begin is None:
                    raise ConfigurationError(
                        f"trainer.tables: the table {name!r} of {child.num_embeddings} rows does not say how rows "
                        "begin, so it cannot be split; make it with make_table, or raise trainer.tables.min_rows"
                    )
                setattr(parent, name, LookUp(name=name, table=child))
                init_rows[name] = begin
    return init_rows


def _collections(model: nn.Module) -> dict[nn.Module, tuple[list[tuple[nn.Module, str]], list[str]]]:
    """Every collection of a model once: who holds it under which attribute, and its prefixes as names of the model."""
    found: dict[nn.Module, tuple[list[tuple[nn.Module, str]], list[str]]] = {}
    for path, parent in model.named_modules(remove_duplicate=False):
        for attribute, child in parent.named_children():
            is_bags = isinstance(child, EmbeddingBagCollection)
            if is_bags or (isinstance(parent, LookUp) and attribute == "collection"):
                places, prefixes = found.setdefault(child, ([], []))
                prefixes.append(f"{path}.{attribute}." if path else f"{attribute}.")
                if (parent, attribute) not in places:
                    places.append((parent, attribute))
    return found


def _plain_names(name: str, prefixes: list[str]) -> list[str]:
    """What a table, ``<number>.embedding_bags.product.weight`` in the holder, was called in the model."""
    _, kind, table, weight = name.split(".")
    if kind == "embedding_bags":
        return [f"{prefix}{kind}.{table}.{weight}" for prefix in prefixes]
    return [f"{prefix.removesuffix('collection.')}{weight}" for prefix in prefixes]


def _tell_each_other(
    mine: dict[str, dict[str, ShardedTensorMetadata]],
) -> dict[str, dict[str, ShardedTensorMetadata]]:
    """Return what any process knows, in the same order in all of them."""
    everybody: list[dict[str, dict[str, ShardedTensorMetadata]]] = [{}] * dist.get_world_size()
    dist.all_gather_object(everybody, mine)
    together: dict[str, dict[str, ShardedTensorMetadata]] = {}
    for one in everybody:
        together |= one
    return together


def _shard(holder: nn.ModuleDict, *, settings: TableSettings, device: torch.device) -> DistributedModelParallel:
    fused = {
        "optimizer": EmbOptimType[OPTIMIZERS[settings.optimizer]],
        "learning_rate": settings.lr,
        "eps": _EPSILON,
    }
    sharders = [_BagSharder(fused_params=fused), EmbeddingCollectionSharder(fused_params=fused)]
    return DistributedModelParallel(
        holder,
        env=ShardingEnv.from_process_group(dist.group.WORLD),
        device=device,
        plan=_agree_on_plan(holder, sharders, settings=settings, device=device),
        sharders=sharders,
        init_data_parallel=False,  # dense layers are not in the holder; Lightning averages their gradients
        init_parameters=False,
    )


def _agree_on_plan(
    holder: nn.Module, sharders: list[Any], *, settings: TableSettings, device: torch.device
) -> ShardingPlan:
    """Plan in process 0 and tell the others, also that there is no plan: they would wait for ever."""
    answer: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            with _quiet():
                planner = EmbeddingShardingPlanner(
                    topology=_topology(device),
                    constraints=_constraints(holder, settings, device),
                    storage_reservation=FixedPercentageStorageReservation(percentage=_RESERVED),
                    debug=False,
                )
                answer = [planner.plan(holder, sharders)]
        except PlannerError as error:
            answer = [str(error).strip().splitlines()[0]]
    dist.broadcast_object_list(answer, src=0)
    if isinstance(answer[0], str):
        raise ConfigurationError(
            f"trainer.tables: the tables cannot be split over {dist.get_world_size()} processes: {answer[0]}"
        )
    plan: ShardingPlan = answer[0]
    return plan


def _topology(device: torch.device) -> Topology:
    """How many processes there are, and what each may hold."""
    world_size = dist.get_world_size()
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // local_world_size
    return Topology(
        world_size=world_size,
        local_world_size=local_world_size,
        compute_device=device.type,
        ddr_cap=host,
        hbm_cap=torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None,
    )


def _constraints(holder: nn.Module, settings: TableSettings, device: torch.device) -> dict[str, ParameterConstraints]:
    """Small tables go to one process each, big ones are split as asked; on GPUs partly in host memory if need be."""
    split = [ShardingType.TABLE_WISE.value, ShardingType.ROW_WISE.value]
    kernels = [EmbeddingComputeKernel.FUSED.value]
    if device.type == "cuda":
        kernels.append(EmbeddingComputeKernel.FUSED_UVM_CACHING.value)
    constraints = {}
    for name, weight in holder.named_parameters():
        kinds = split if settings.sharding == "auto" else [settings.sharding]
        if len(weight) < settings.min_rows:
            kinds = split[:1]
        constraints[name.split(".")[-2]] = ParameterConstraints(sharding_types=kinds, compute_kernels=kernels)
    return constraints


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the planner's tables of numbers and its advice off the terminal."""
    logger = logging.getLogger("torchrec.distributed.planner")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
