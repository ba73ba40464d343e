"""Runs with split tables: any number of processes resumes them, everything that reads runs reads them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from roomrec.errors import ConfigurationError
from tests import worlds
from tests.processes import run_jobs
from training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT, load_trained_model
from training.sharding.settings import check_sharded, read_table_settings

SECTION = {"optimizer": "rowwise_adagrad", "lr": 0.1, "sharding": "auto", "min_rows": 1000}


@pytest.mark.parametrize(
    ("change", "device", "precision", "answer"),
    [
        (
            {"optimizer": "adam"},
            "cpu",
            "32-true",
            "on the CPU tables are updated by one of sgd, adagrad, rowwise_adagrad",
        ),
        ({"optimizer": "adamw"}, "cuda", "32-true", "choose one of sgd, adagrad, rowwise_adagrad, adam, rowwise_adam"),
        (
            {"sharding": "column"},
            "cpu",
            "32-true",
            "trainer.tables.sharding is 'column': choose one of auto, table_wise",
        ),
        ({"lr": 0}, "cpu", "32-true", "trainer.tables.lr is 0: expected a number above 0"),
        ({"min_rows": 0}, "cpu", "32-true", "trainer.tables.min_rows is 0: expected a whole number"),
        ({}, "cuda", "16-mixed", "trainer.precision is '16-mixed': it scales the loss"),
    ],
)
def test_what_makes_no_sense_is_refused(change, device, precision, answer):
    with pytest.raises(ConfigurationError, match=answer):
        read_table_settings(SECTION | change, device=device, precision=precision)


def test_an_average_of_split_tables_is_refused():
    config = OmegaConf.create({"trainer": {"strategy": "sharded"}, "average_epochs": 1})
    with pytest.raises(ConfigurationError, match=r"average_epochs is 1: trainer=sharded .* pass average_epochs=0"):
        check_sharded(config)


def job(size: int, dataset: Path, folder: Path, name: str, *overrides: str, **more: Any) -> dict[str, Any]:
    return {
        "num_processes": size,
        "call": "tests.sharded_jobs:train",
        "with": {
            "dataset": str(dataset),
            "data_dir": str(folder / "data"),
            "out": str(folder / name),
            "overrides": list(overrides),
        }
        | more,
    }


def found(folder: Path, name: str, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"{name}-{rank}.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("model", "batch_size"), [("two_tower", 64), ("sasrec", 16)])
def test_a_run_of_two_processes_goes_on_in_one_and_in_four(tmp_path, model, batch_size):
    dataset = worlds.markov_chain_world(tmp_path / "dataset", num_products=40)
    settings = (
        f"model={model}",
        f"batches.batch_size={batch_size}",
        "trainer.tables.sharding=row_wise",
        "name=run",
        "max_epochs=2",
    )
    run_jobs(job(2, dataset, tmp_path, "two", *settings, stop_at=3))
    run = tmp_path / "data" / "runs" / "run"
    assert found(tmp_path, "two")["interrupted"].startswith("stopped after step 3")
    assert found(tmp_path, "two", 1)["interrupted"].startswith("stopped after step 3")
    saved = torch.load(run / LAST_CHECKPOINT, weights_only=True)
    num_batches = saved["BatchDataModule"]["num_batches"]
    assert saved["BatchDataModule"]["batches"] == 6
    tables = saved["optimizer_states"][0]["tables"]
    assert {tuple(state["momentum1"].shape) for state in tables.values()} >= {(42,)}

    shutil.copytree(tmp_path / "data", tmp_path / "four" / "data")
    (tmp_path / "four").mkdir(exist_ok=True)
    run_jobs(
        job(1, dataset, tmp_path, "one", *settings, "resume=true"),
        job(4, dataset, tmp_path / "four", "four", *settings, "resume=true"),
    )
    one, four = found(tmp_path, "one"), found(tmp_path / "four", "four")
    # Six batches are done; the rest of this epoch and all of the next follow.
    assert one["epochs"] == four["epochs"] == 2
    assert len(one["losses"]) == num_batches - 6 + num_batches
    assert len(four["losses"]) == (num_batches - 6) // 4 + num_batches // 4
    assert one["steps"] == 3 + len(one["losses"])
    trained = load_trained_model(run)
    ones, product = torch.ones(1, 3, dtype=torch.long), torch.full((1, 3), 3)
    assert trained.model.user_encoder(ones, ones, product, ones, ones, torch.zeros(1, 3)).shape == (1, 8)
    assert (run / BEST_CHECKPOINT).exists()
