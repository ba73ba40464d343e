"""Beginning where another run ended, with a vocabulary that has grown and is in another order."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console
from torch import nn

from roomrec.errors import ConfigurationError
from tests import worlds
from tests.processes import run_jobs
from tests.training.test_sharding import found, job
from tests.training.test_train import small_config
from training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT, load_trained_model
from training.train import run
from training.warm_start import EarlierRun, WarmStart, match_rows

HELD_STILL = ("optimizer.lr=1e-12", "warmup_steps=0", "max_epochs=1")
"""With them a run ends as it began."""


def shop(folder: Path, names: list[str], *, seed: int = 1) -> Path:
    """Write a shop log in which each product is followed by the next one; users are u0, u1, ..."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(len(names), size=200)
    users = [[(int(start) + step) % len(names) for step in range(10)] for start in starts]
    return worlds.write_shop(folder, users, num_products=len(names), product_ids=names)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shop(tmp_path_factory.mktemp("shop") / "small", [f"p{number}" for number in range(12)])


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve products as in ``small`` and two new ones: ``new`` is the first, ``p11`` the second, and so on down."""
    names = ["new", *(f"p{number}" for number in reversed(range(12))), "newer"]
    return shop(tmp_path_factory.mktemp("shop") / "grown", names)


def table_of(folder: Path, model: str) -> torch.Tensor:
    name = {
        "sasrec": "item_encoder.embeddings.tables.product.weight",
        "two_tower": "collection.embedding_bags.product.weight",
        "two_tower_graph": "products.weight",
    }[model]
    return load_trained_model(folder).model.get_parameter(name).detach()


def test_rows_are_matched_by_id():
    there, here = pa.array(["silk", "wool"]), pa.chunked_array([["wool", "linen"], ["silk"]])
    assert match_rows(there, here).tolist() == [0, 1, 3, -1, 2]
    assert match_rows(there, there).tolist() == [0, 1, 2, 3]
    assert match_rows(there, pa.array([], pa.string())).tolist() == [0, 1]


class _Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"product": nn.Embedding(5, 1), "last": nn.Linear(1, 1, bias=False)})
        self.averaged = nn.ModuleDict({"product": nn.Embedding(5, 1), "last": nn.Linear(1, 1, bias=False)})
        nn.init.constant_(self.model["product"].weight, 7.0)


def test_known_rows_and_other_weights_are_filled_and_the_average_follows():
    module, text = _Module(), io.StringIO()
    earlier = EarlierRun(
        name="monday",
        weights={
            "product.weight": torch.tensor([[0.0], [0.5], [1.0], [2.0]]),
            "last.weight": torch.tensor([[9.0]]),
        },
        sources={"product.weight": torch.tensor([0, 1, 3, -1, 2])},
        states={},
    )
    trainer: Any = type("Trainer", (), {"strategy": None, "is_global_zero": True})
    WarmStart(earlier, console=Console(file=text)).on_train_start(trainer, module)  # type: ignore[arg-type]
    for model in (module.model, module.averaged):
        assert model["product"].weight.flatten().tolist() == [0.0, 0.5, 2.0, 7.0, 1.0]
        assert model["last"].weight.tolist() == [[9.0]]
    assert text.getvalue() == "begins where monday ended, which knew 2 of 3 products\n"


@pytest.mark.parametrize(
    "settings",
    [
        ("model=two_tower", "average_epochs=0"),
        ("model=two_tower", "average_epochs=1"),
        ("model=sasrec", "average_epochs=1"),
        ("model=two_tower_graph", "average_epochs=1"),
    ],
)
def test_a_run_begins_with_the_rows_of_its_ids(small, grown, tmp_path, settings):
    model = settings[0].partition("=")[2]
    first = run(small_config(small, tmp_path, *settings, "name=first", "max_epochs=1"))
    second = run(small_config(grown, tmp_path, *settings, "name=second", "warm_start=first", *HELD_STILL))
    before, after = table_of(first.folder, model), table_of(second.folder, model)
    assert before.shape == (14, 8)
    assert after.shape == (16, 8)
    torch.testing.assert_close(after[3:15], before[2:].flip(0), atol=1e-6, rtol=0)  # p11 to p0
    torch.testing.assert_close(after[:2], before[:2], atol=1e-6, rtol=0)
    assert after[[2, 15]].abs().sum(dim=1).min() > 0.01


def test_where_an_average_is_kept_the_average_is_taken(small, tmp_path):
    settings = ("model=two_tower", "average_epochs=1")
    first = run(small_config(small, tmp_path, *settings, "name=first", "max_epochs=1"))
    state = torch.load(first.folder / BEST_CHECKPOINT, weights_only=True)["state_dict"]
    name = "collection.embedding_bags.product.weight"
    assert (state[f"model.{name}"] - state[f"averaged.{name}"]).abs().max() > 1e-4
    second = run(small_config(small, tmp_path, *settings, "name=second", "warm_start=first", *HELD_STILL))
    for prefix in ("model", "averaged"):
        now = torch.load(second.folder / BEST_CHECKPOINT, weights_only=True)["state_dict"][f"{prefix}.{name}"]
        torch.testing.assert_close(now, state[f"averaged.{name}"], atol=1e-6, rtol=0)


def test_a_resumed_run_does_not_begin_again(small, tmp_path):
    run(small_config(small, tmp_path, "model=two_tower", "name=first", "max_epochs=1"))
    settings = ("model=two_tower", "name=second", "warm_start=first")
    one = run(small_config(small, tmp_path, *settings, "max_epochs=1"))
    shutil.rmtree(tmp_path / "runs" / "first")
    assert run(small_config(small, tmp_path, *settings, "max_epochs=2", "resume=true")).steps == 2 * one.steps


def test_what_cannot_be_begun_with_is_said_in_a_sentence(small, grown, tmp_path):
    begun = run(small_config(small, tmp_path, "model=two_tower", "name=begun", "max_epochs=1"))
    (tmp_path / "runs" / "unfinished").mkdir()
    other = shop(tmp_path / "other", ["q0", "q1", "q2", "q3"])

    def begin(dataset: Path, *overrides: str) -> None:
        run(small_config(dataset, tmp_path, "model=two_tower", "name=next", *overrides))

    with pytest.raises(
        ConfigurationError, match=r"^warm_start=nobody: there is no such run; found begun, unfinished in"
    ):
        begin(small, "warm_start=nobody")
    with pytest.raises(
        ConfigurationError, match=r"^warm_start=unfinished: .* has no checkpoints/best.ckpt, so no epoch"
    ):
        begin(small, "warm_start=unfinished")
    with pytest.raises(
        ConfigurationError, match=r"^warm_start=begun is the run that would be trained: give it another"
    ):
        begin(small, "warm_start=begun", "name=begun", "overwrite=true")
    with pytest.raises(
        ConfigurationError,
        match=r"^warm_start=begun: its weights do not fit this model: collection.embedding_bags.streamer.weight has "
        r"shape \(2, 8\) there and \(2, 4\) here, as the settings differ in model.embedding_dim=4 \(there 8\); train",
    ):
        begin(grown, "warm_start=begun", "model.embedding_dim=4")
    with pytest.raises(
        ConfigurationError,
        match=r"^warm_start=begun: its weights do not fit this model: \S+ is in one of the two only, as the settings "
        r"differ in model._target_=roomrec.models.sasrec.SASRec \(there roomrec.models.two_tower.TwoTower\)",
    ):
        begin(small, "warm_start=begun", "model=sasrec")
    with pytest.raises(
        ConfigurationError,
        match=r"^warm_start=begun: that run knows none of the 4 products and 0 streamers of dataset=\S+, so it was",
    ):
        begin(other, "warm_start=begun")
    (begun.folder / "vocabulary.parquet").unlink()
    with pytest.raises(ConfigurationError, match=r"^warm_start=begun: \S+/vocabulary.parquet is not there or not what"):
        begin(small, "warm_start=begun")
    assert not (tmp_path / "runs" / "next").exists()
    assert (begun.folder / BEST_CHECKPOINT).exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["two_tower", "sasrec"])
def test_split_tables_of_two_processes_go_on_grown_in_one_and_in_four(tmp_path, model):
    names = [f"p{number}" for number in range(40)]
    small = shop(tmp_path / "small", names)
    grown = shop(tmp_path / "grown", ["new", *reversed(names), "newer"])
    settings = (f"model={model}", "batches.batch_size=16", "trainer.tables.sharding=row_wise", "name=run")
    run_jobs(job(2, small, tmp_path, "two", *settings, "max_epochs=1"))
    first = tmp_path / "data" / "runs" / "run"
    assert found(tmp_path, "two")["epochs"] == 1
    overrides = (*settings, f"warm_start={first}", *HELD_STILL, "trainer.tables.lr=1e-12")
    folders = {1: tmp_path / "in-one", 4: tmp_path / "in-four"}
    for folder in folders.values():
        folder.mkdir()
    run_jobs(*(job(size, grown, folder, "grown", *overrides) for size, folder in folders.items()))
    before = table_of(first, model)
    saved = torch.load(first / LAST_CHECKPOINT, weights_only=True)["optimizer_states"][0]["tables"]
    name = next(name for name in saved if name.endswith("product.weight"))
    for folder in folders.values():
        after = table_of(folder / "data" / "runs" / "run", model)
        assert after.shape == (44, 8)
        torch.testing.assert_close(after[3:43], before[2:].flip(0), atol=1e-6, rtol=0)
        assert after[[2, 43]].abs().sum(dim=1).min() > 0.01
        # What Adagrad has summed up goes with its row and grows on.
        state = torch.load(folder / "data" / "runs" / "run" / LAST_CHECKPOINT, weights_only=True)["optimizer_states"]
        sums, sums_before = state[0]["tables"][name]["momentum1"], saved[name]["momentum1"]
        assert (sums[3:43] >= sums_before[2:].flip(0)).all()
        assert (sums_before[2:] > 0).all()
