"""Evaluation of a run, from the command's config to its report."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from roomrec.errors import ConfigurationError, DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from tests.runs import config_of, write_run
from tests.worlds import write_shop
from training import evaluate
from training.callbacks.full_ranking import FullRankingValidation
from training.configuration import CONFIGS
from training.evaluation.trained_run import open_run
from training.settings import require_run


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, live_dataset, markov_dataset) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_run(folder, "live", live_dataset)
    write_run(folder, "markov", markov_dataset)
    return folder


def test_a_live_run_is_measured_on_what_was_live(data_dir):
    result = evaluate.run(config_of("evaluate", run="live", data_dir=data_dir))
    assert sorted(path.name for path in result.folder.iterdir()) == ["metrics.json", "plot.png", "table.md"]
    assert {row["surface"] for row in result.rows} == {"room_feed"}
    assert [row["scorer"] for row in result.rows[:4]] == ["model", "popularity", "recent_popularity", "item_knn"]
    assert {row["mean_candidates"] for row in result.rows} == {3.0}
    everything, new, repeat = (result.rows[nth]["queries"] for nth in (0, 4, 8))
    assert everything == new + repeat == 400
    assert result.rows[0]["hr@5"] == 1.0  # three rooms are live
    assert result.rows[3]["hr@5"] == 1.0
    stored = json.loads((result.folder / "metrics.json").read_text())
    assert stored["rows"] == result.rows
    assert stored["summary"] == result.summary
    assert result.summary["unavailable_targets"] == 0
    assert result.summary["repeat_share"] == 0.985
    assert 0.5 < result.summary["popularity_ndcg@10"] < result.summary["item_knn_ndcg@10"] <= 1.0


def test_a_shop_run_is_measured_on_the_catalogue(data_dir):
    result = evaluate.run(config_of("evaluate", run="markov", data_dir=data_dir, ks="[1,10]"))
    assert {row["surface"] for row in result.rows} == {"catalogue"}
    assert {row["mean_candidates"] for row in result.rows} == {12.0}
    table = (result.folder / "table.md").read_text()
    assert "| all | popularity | 300 | 12 |" in table
    assert "recall" not in table  # one target each: the hit rate says it


def test_validation_has_a_report_of_its_own(data_dir):
    result = evaluate.run(config_of("evaluate", run="markov", data_dir=data_dir, split="validation", max_queries=50))
    assert result.folder.name == "markov-validation"
    assert result.summary["queries"] == 50


@pytest.mark.parametrize("name", ["live", "markov"])
def test_training_validates_by_the_same_measure(data_dir, name):
    trained = open_run(data_dir / "runs" / name, data_dir=data_dir)
    callback = FullRankingValidation(
        dataset=trained.dataset,
        max_sequence_length=trained.max_sequence_length,
        max_queries=10_000,
        ks=[1, 10],
    )
    while_training = callback.measure(trained.model)
    row = evaluate.run(config_of("evaluate", run=name, data_dir=data_dir, split="validation", ks="[1,10]")).rows[0]
    for metric in ("hr@1", "ndcg@10"):
        assert math.isclose(row[metric], while_training[metric], abs_tol=1e-9)


def test_the_model_may_stand_alone(data_dir):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("evaluate", overrides=["run=live", f"data_dir={data_dir}", "~baselines"])
    assert {row["scorer"] for row in evaluate.run(config).rows} == {"model"}


def test_weights_of_another_version_of_the_code_are_named(data_dir, live_dataset):
    folder = write_run(data_dir, "older", live_dataset)
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    del checkpoint["state_dict"]["model.user_encoder.embedding_norm.weight"]
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    with pytest.raises(ConfigurationError, match=r"best\.ckpt holds other weights than this code's SASRec has"):
        open_run(folder, data_dir=data_dir)
    shutil.rmtree(folder)


def test_a_run_may_be_named_by_its_folder(data_dir):
    config = config_of("evaluate", run=data_dir / "runs" / "live", data_dir="elsewhere")
    assert require_run(config) == data_dir / "runs" / "live"


def test_mistakes_are_answered(data_dir, tmp_path):
    for settings, message in (
        ({}, r"run is not set: choose one with run=\.\.\.; found live, markov in"),
        ({"run": "nope"}, "run=nope: there is no such run; found live, markov in"),
        ({"run": "live", "split": "holdout"}, "split is 'holdout': choose one of train, validation, test"),
        ({"run": "live", "ks": "[0]"}, r"ks is \[0\]: expected whole numbers of at least 1"),
        ({"run": "live", "ks": "5"}, r"ks is 5: expected whole numbers of at least 1, as in ks=\[5,10\]"),
        ({"run": "live", "max_queries": "0"}, "max_queries is 0: expected a whole number of at least 1 or null"),
        ({"run": "live", "max_queries": "-5"}, "max_queries is -5"),
        (
            {"run": "live", "baselines.item_knn.num_neighbours": "0"},
            "baselines: num_neighbours must be at least 1, received 0",
        ),
        ({"run": "live", "device": "gpux"}, "device is 'gpux': choose auto, cpu or cuda"),
        ({"run": "live", "headline_k": 7}, "headline_k is 7: expected one of ks"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            evaluate.run(config_of("evaluate", data_dir=data_dir, **settings))
    other = write_shop(tmp_path / "other", [[0, 1, 2]], num_products=3)
    with pytest.raises(DatasetError, match="another vocabulary"):
        evaluate.run(config_of("evaluate", run="live", data_dir=data_dir, dataset=other))


def test_a_world_where_targets_are_known(live_dataset):
    """The fixture itself: every test target is live when chosen."""
    dataset = ProcessedDataset.open(live_dataset)
    queries = dataset.queries("test")
    assert np.all(dataset.availability.is_available(queries.targets, queries.at_ms))


def test_blends_stand_in_the_table(data_dir):
    config = config_of("evaluate", run="live", data_dir=data_dir, **{"hybrid.parts": "[popularity,item_knn]"})
    result = evaluate.run(config)
    scorers = [row["scorer"] for row in result.rows if row["segment"] == "all"]
    assert scorers[-2:] == ["hybrid_weighted", "hybrid_learned"]
    assert result.summary["hybrid_weighted_ndcg@10"] > result.summary["item_knn_ndcg@10"] - 0.05
    config = config_of("evaluate", run="live", data_dir=data_dir, **{"hybrid.parts": "[ease]"})
    with pytest.raises(ConfigurationError, match=r"hybrid\.parts holds ease: choose of the baselines that are there"):
        evaluate.run(config)
