"""What tests of split tables run in each of several processes."""

import json
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from pytorch_lightning import Callback
from torch import Tensor, nn

import training.sharding.strategy  # noqa: F401  (imported before forking)
from roomrec.sequences.dataset import ProcessedDataset
from training import train as job
from training.assembly import make_source
from training.configuration import CONFIGS
from training.sharding.plan import SplitTables, big_tables_on_meta
from training.sharding.settings import TableSettings

LEARNING_RATE = 0.1
MIN_ROWS = 30


def config_of(dataset: str, data_dir: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(
            "train",
            overrides=[
                f"dataset={dataset}",
                f"data_dir={data_dir}",
                "trainer=sharded",
                f"trainer.tables.min_rows={MIN_ROWS}",
                "trainer.precision=32-true",
                "model.embedding_dim=8",
                "model.max_sequence_length=12",
                "batches.batch_size=64",
                "warmup_steps=0",
                "average_epochs=0",
                *overrides,
            ],
        )


def compare_with_plain(*, dataset: str, out: str, model: str, sharding: str, optimizer: str, num_steps: int) -> None:
    """Train a split model on this process's batches and a plain one on everybody's; process 0 writes both."""
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    config = config_of(dataset, "unused", f"model={model}", "model.dropout_rate=0" if model == "sasrec" else "seed=0")
    opened = ProcessedDataset.open(Path(dataset))
    source, loss = make_source(config, opened), instantiate(config.loss)
    make = instantiate(config.model, _partial_=True)
    torch.manual_seed(0)
    plain = make(spec=opened.spec)
    with big_tables_on_meta(min_rows=MIN_ROWS):
        split = make(spec=opened.spec)
    settings = TableSettings(optimizer=optimizer, lr=LEARNING_RATE, sharding=sharding, min_rows=MIN_ROWS)
    tables = SplitTables(split, settings=settings, device=torch.device("cpu"), seed=0)
    names = {name for aliases in tables.aliases.values() for name in aliases}
    tables.fill(plain.state_dict())
    dense = {
        name: value for name, value in split.state_dict().items() if name in plain.state_dict() and name not in names
    }
    for name, value in dense.items():
        value.copy_(plain.state_dict()[name])
    stepped = [value for name, value in split.named_parameters() if name in dense]
    optimizer_of_dense = torch.optim.SGD(stepped or [nn.Parameter(torch.empty(0))], lr=0.01)
    update = _Update(plain, tables=names, kind=optimizer)
    losses: list[tuple[float, float]] = []
    for step in range(num_steps):
        everybody = [source.batch(*divmod(step * size + one, len(source))) for one in range(size)]
        ours = loss(*split.training_vectors(everybody[rank]), everybody[rank].candidates)
        ours.backward()
        for value in stepped:
            dist.all_reduce(value.grad)
            value.grad /= size
        optimizer_of_dense.step()
        optimizer_of_dense.zero_grad()
        theirs = torch.stack([loss(*plain.training_vectors(batch), batch.candidates) for batch in everybody])
        theirs.mean().backward()
        update.step()
        losses.append((float(ours), float(theirs[rank])))
    whole = tables.gather(None)
    if rank == 0:
        distance = {name: float((value - plain.state_dict()[name]).abs().max()) for name, value in whole.items()}
        Path(out).write_text(json.dumps({"losses": losses, "distance": distance, "num_tables": len(tables.weights)}))
    dist.destroy_process_group()


class _Update:
    """The optimisers in a few lines of torch, for the plain model."""

    def __init__(self, model: nn.Module, *, tables: set[str], kind: str) -> None:
        self._model, self._tables, self._kind = model, tables, kind
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        for name, value in self._model.named_parameters():
            gradient = value.grad
            if gradient is None:
                continue
            if name not in self._tables:
                value -= 0.01 * gradient
            elif self._kind == "sgd":
                value -= LEARNING_RATE * gradient
            else:
                square = gradient**2 if self._kind == "adagrad" else (gradient**2).mean(dim=1, keepdim=True)
                total = self._sums[name] = self._sums.get(name, 0.0) + square
                value -= LEARNING_RATE * gradient / (total.sqrt() + 1e-8)
        self._model.zero_grad()


class _Losses(Callback):
    """Writes down the loss of every step, and which batches they were of."""

    def __init__(self, losses: dict[int, float]) -> None:
        self._losses = losses

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._losses[trainer.global_step] = float(outputs["loss"])


class _Stop(Callback):
    """Asks to stop during a step, in one process only."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        from training.callbacks.interruption import SaveOnInterrupt

        if trainer.global_step + 1 == self._step and trainer.global_rank == trainer.world_size - 1:
            next(one for one in trainer.callbacks if isinstance(one, SaveOnInterrupt)).ask()


def train(*, dataset: str, data_dir: str, out: str, overrides: list[str], stop_at: int | None = None) -> None:
    """Run the job; every process writes its losses to ``<out>-<rank>.json``."""
    from training.run_folder import TrainingInterrupted

    losses: dict[int, float] = {}
    watching = [_Losses(losses)] + ([_Stop(stop_at)] if stop_at else [])
    found: dict[str, Any] = {"losses": losses}
    try:
        result = job.run(config_of(dataset, data_dir, *overrides), callbacks=watching)
        found |= {"epochs": result.epochs, "steps": result.steps, "best": result.best}
    except TrainingInterrupted as interruption:
        found["interrupted"] = str(interruption)
    Path(f"{out}-{os.environ['RANK']}.json").write_text(json.dumps(found))
