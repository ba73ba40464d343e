"""Beginning where another run ended: rows of tables are matched by id, so the vocabulary may have grown."""

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor, nn

from roomrec.errors import ConfigurationError
from roomrec.ids import FIRST_INDEX
from training.modules.recommender import is_updated_in_backward
from training.run_folder import BEST_CHECKPOINT, RUN_VOCABULARY, different_settings, trained_weights
from training.sharding.settings import is_sharded

NAMESPACE_OF_TABLE: Final = {
    "user": "user",
    "users": "user",
    "streamer": "streamer",
    "product": "product",
    "products": "product",
    "category": "category",
    "attributes": "attribute",
}
"""Tables that have a row for every id, and of which ids; ``<table>.weight`` is the end of a weight's name."""


class EarlierRun(NamedTuple):
    """What another run left, and how its rows become ours."""

    name: str
    """as ``warm_start`` says it"""
    weights: dict[str, Tensor]
    """what that run is evaluated by, mapped from disk, by their names in the model"""
    sources: dict[str, Tensor]
    """for tables of ids, by name: the row there for each of our rows, -1 for an id it did not know, ``[V]``"""
    states: dict[str, dict[str, Tensor]]
    """what ``trainer=sharded`` kept of each table's rows, if both runs keep the same"""


def open_earlier_run(folder: Path, *, vocabulary_file: Path, model: nn.Module, config: DictConfig) -> EarlierRun:
    """Read what another run left.

    Args:
        folder: Of that run, as ``find_earlier_run`` returned it.
        vocabulary_file: Ours.
        model: Ours; big tables may be without memory.
        config: Ours.

    Raises:
        ConfigurationError: If that run is of another model, or knows none of our items.
    """
    checkpoint = torch.load(folder / BEST_CHECKPOINT, map_location="cpu", mmap=True, weights_only=True)
    weights = trained_weights(checkpoint["state_dict"])
    sources, rows_of = {}, {}
    for name in model.state_dict():
        if namespace := _namespace_of(name):
            if namespace not in rows_of:
                files = (folder / RUN_VOCABULARY, vocabulary_file)
                rows_of[namespace] = match_rows(*(_ids_in(file, namespace) for file in files))
            sources[name] = rows_of[namespace]
    earlier = EarlierRun(str(config.warm_start), weights, sources, _states_of_tables(checkpoint, folder, config))
    _check_fits(earlier, model, folder, config)
    known = {namespace: rows_of[namespace] for namespace in ("product", "streamer") if namespace in rows_of}
    if not any((rows[FIRST_INDEX:] >= 0).any() for rows in known.values()):
        ours = " and ".join(f"{len(rows) - FIRST_INDEX} {namespace}s" for namespace, rows in known.items())
        raise ConfigurationError(
            f"warm_start={earlier.name}: that run knows none of the {ours} of dataset={config.dataset}, so it was "
            "trained on another log: name a run of this one, or train without warm_start"
        )
    return earlier


def match_rows(there: pa.Array | pa.ChunkedArray, here: pa.Array | pa.ChunkedArray) -> Tensor:
    """Return for each row of our table the row of theirs that stands for the same id, -1 if none does.

    Example:
        >>> match_rows(pa.array(["a", "b"]), pa.array(["b", "new", "a"]))
        tensor([ 0,  1,  3, -1,  2])
    """
    found = pc.add(pc.index_in(here, value_set=there).cast(pa.int64()), FIRST_INDEX)
    rows = np.asarray(pc.fill_null(found, -1), dtype=np.int64)
    return torch.from_numpy(np.concatenate([np.arange(FIRST_INDEX), rows]))


class WarmStart(Callback):
    """Fills the weights before the first step; rows of new ids stay as the model made them.

    Of what the optimisers keep, only the sums of split tables are taken over: Adagrad never forgets them, and without
    them its first step would throw trained rows about. Adam finds its moments anew within ``warmup_steps``.

    Args:
        earlier: What another run left.
        console: Where to say how much of it there was; stderr if not given.
    """

    def __init__(self, earlier: EarlierRun, *, console: Console | None = None) -> None:
        self._earlier = earlier
        self._console = console or Console(stderr=True, soft_wrap=True, highlight=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fill, where every process has its rows already."""
        earlier = self._earlier
        tables = getattr(trainer.strategy, "tables", None)
        if tables is not None:
            tables.fill(earlier.weights, sources=earlier.sources)
            tables.fill_states(earlier.states, sources=earlier.sources)
        model: nn.Module = pl_module.model  # type: ignore[assignment]
        for name, value in model.named_parameters():
            if name in earlier.weights and not is_updated_in_backward(value):
                _fill(value.data, earlier.weights[name], earlier.sources.get(name))
        if isinstance(pl_module.averaged, nn.Module):
            pl_module.averaged.load_state_dict(model.state_dict())
        if trainer.is_global_zero:
            self._console.print(f"begins where {earlier.name} ended, which knew {_known(earlier)}")


def _namespace_of(name: str) -> str | None:
    """Say of which ids a weight has rows, if it is a table of ids."""
    *_, table, weight = ["", *name.split(".")]
    return NAMESPACE_OF_TABLE.get(table) if weight == "weight" else None


def _ids_in(file: Path, namespace: str) -> pa.ChunkedArray:
    """Ids in the order of their indices; unlike a Vocabulary without a dictionary of them, in every process."""
    rows = pq.read_table(file, columns=["namespace", "id"])
    return rows.filter(pc.equal(rows["namespace"], namespace))["id"]


def _states_of_tables(checkpoint: dict[str, Any], folder: Path, config: DictConfig) -> dict[str, dict[str, Tensor]]:
    there = OmegaConf.load(folder / "config.yaml")
    assert isinstance(there, DictConfig)
    if not (is_sharded(there) and is_sharded(config)):
        return {}
    same = there.trainer.tables.optimizer == config.trainer.tables.optimizer
    states: dict[str, dict[str, Tensor]] = checkpoint["optimizer_states"][0]["tables"]
    return states if same else {}


def _check_fits(earlier: EarlierRun, model: nn.Module, folder: Path, config: DictConfig) -> None:
    """Refuse weights of another model; tables of ids may have any number of rows."""
    ours = model.state_dict()
    problem = next((f"{name} is in one of the two only" for name in sorted(ours.keys() ^ earlier.weights.keys())), None)
    for name, value in model.named_parameters() if problem is None else ():
        there, here = tuple(earlier.weights[name].shape), tuple(value.shape)
        first = 1 if name in earlier.sources else 0
        if there[first:] != here[first:]:
            problem = f"{name} has shape {there} there and {here} here"
            break
    if problem is None:
        return
    settings = different_settings(folder, config, more=("side_features",))
    different = ", ".join(f"{key}={now} (there {before})" for key, before, now in settings)
    cause = f"the settings differ in {different}" if different else "the logs have different features"
    raise ConfigurationError(
        f"warm_start={earlier.name}: its weights do not fit this model: {problem}, as {cause}; train with the settings "
        "of that run, or without warm_start"
    )


def _fill(target: Tensor, earlier: Tensor, source: Tensor | None) -> None:
    """Copy all, or the rows that have a source."""
    if source is None:
        target.copy_(earlier)
        return
    kept = (source >= 0).nonzero().flatten()
    target.index_copy_(0, kept.to(target.device), earlier[source[kept]].to(target.device, target.dtype))


def _known(earlier: EarlierRun) -> str:
    """Say of how many of our ids it had rows: ``12 of 15 products, 300 of 300 users``."""
    rows_of = {_namespace_of(name): rows[FIRST_INDEX:] for name, rows in earlier.sources.items()}
    plurals = {"category": "categories"}
    return ", ".join(
        f"{int((rows >= 0).sum())} of {len(rows)} {plurals.get(str(namespace), f'{namespace}s')}"
        for namespace, rows in sorted(rows_of.items(), key=str)
        if len(rows)
    )
