"""The training job, shrunken."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from roomrec.errors import ConfigurationError, DatasetError
from tests.worlds import write_shop
from training.configuration import CONFIGS
from training.run_folder import LAST_CHECKPOINT, load_trained_model
from training.train import run


def small_config(dataset: Path, data_dir: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(
            "train",
            overrides=[
                f"dataset={dataset}",
                f"data_dir={data_dir}",
                "name=tiny",
                "trainer=cpu",
                "model.embedding_dim=8",
                "batches.batch_size=64",
                "max_epochs=2",
                *overrides,
            ],
        )


@pytest.mark.parametrize("model", ["sasrec", "two_tower"])
@pytest.mark.parametrize("world", ["markov_dataset", "live_dataset"])
def test_a_run_leaves_what_others_need(request, tmp_path, model, world):
    dataset = request.getfixturevalue(world)
    result = run(small_config(dataset, tmp_path, f"model={model}"))
    assert result.folder == tmp_path / "runs" / "tiny"
    assert result.epochs == 2
    assert sorted(path.name for path in result.folder.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "environment.json",
        "metrics.csv",
        "tensorboard",
        "vocabulary.parquet",
    ]
    assert sorted(path.name for path in (result.folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert 0.0 < result.best <= 1.0
    header, *rows = (result.folder / "metrics.csv").read_text().splitlines()
    assert {"epoch", "step", "train_loss_epoch", "val_ndcg@10", "val_hr@10"} <= set(header.split(","))
    assert len(rows) >= 2
    trained = load_trained_model(result.folder)
    assert trained.spec.num_users == json.loads((dataset / "summary.json").read_text())["feature_spec"]["num_users"]
    history = torch.full((1, 3), 1)
    vectors = trained.model.user_encoder(*[history] * 6, torch.tensor([2]))
    assert vectors.shape == (1, 8)


@pytest.mark.parametrize(
    "choice",
    [
        "negatives=uniform",
        "negatives=popularity",
        "negatives=in_batch",
        "negatives=mixed",
        "loss=bce",
        "loss=gbce negatives.otherwise.num_negatives=4",
        "loss=hardest_softmax loss.num_hardest=3",
        "model=two_tower_graph loss=user_softmax negatives=popularity",
        "model=two_tower_graph loss=cosine_contrastive model.temperature=1 loss.margin=0.2 loss.negative_weight=2",
    ],
)
def test_every_choice_trains(markov_dataset, tmp_path, choice):
    result = run(small_config(markov_dataset, tmp_path, *choice.split(), "max_epochs=1"))
    assert result.metrics["train_loss_epoch"] > 0


def test_equal_seeds_give_equal_losses(markov_dataset, tmp_path):
    losses = [
        run(small_config(markov_dataset, tmp_path, f"name={name}", f"seed={seed}")).metrics["train_loss_epoch"]
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    ]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_run_is_not_lost_by_accident(markov_dataset, tmp_path):
    run(small_config(markov_dataset, tmp_path, "max_epochs=1"))
    with pytest.raises(ConfigurationError, match=r"overwrite=true, which deletes checkpoints, config.yaml"):
        run(small_config(markov_dataset, tmp_path))
    assert (tmp_path / "runs" / "tiny" / LAST_CHECKPOINT).exists()
    assert run(small_config(markov_dataset, tmp_path, "overwrite=true")).epochs == 2


def test_what_is_refused_deletes_and_writes_nothing(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for wrong, answer in (
        ("max_epochs=-1", "max_epochs is -1: expected a whole number of at least 1"),
        ("max_epochs=1.5", "max_epochs is 1.5: expected a whole number of at least 1"),
        ("seed=-1", "seed is -1: expected a whole number from 0 to 4294967295"),
        ("seed=20000000000", "seed is 20000000000: expected a whole number from 0 to 4294967295"),
        ("validation.ks=[0]", r"validation.ks is \[0\]: expected whole numbers of at least 1"),
        ("validation.ks=[]", "validation.ks is"),
        ("validation.max_queries=0", "validation.max_queries is 0: expected a whole number of at least 1 or null"),
        ("validation.monitor=val_ndgc@10", "validation.monitor is 'val_ndgc@10': .* choose one of val_ndcg@10"),
        ("negatives.num_negatives=0", "negatives.num_negatives is 0"),
        ("negatives.num_room_negatives=99", "negatives: num_room_negatives is 99"),
        ("batches.batch_size=0", "batches: batch_size must be at least 1, received 0"),
        ("model.embedding_dim=7", "model: embedding_dim 7 must be a multiple of num_heads 2"),
        ("loss=gbce loss.calibration=7", "loss: calibration must be from 0 to 1, received 7"),
        ("model.dropout_rate=2", "model: dropout_rate must be at least 0 and below 1, received 2"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
        ("trainer.precision=float7", "trainer: Precision 'float7' is invalid"),
        ("trainer.devices=0", r"trainer: `Trainer\(devices=0\)` value is not a valid input"),
        ("trainer=gpu", "trainer=gpu needs a CUDA device"),
        ("name=../elsewhere", "name is '../elsewhere': expected the name of a folder"),
        ("resume=true", "resume=true continues a run, overwrite=true deletes it: choose one"),
    ):
        kept = tmp_path / "runs" / "tiny" / "kept"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch()
        with pytest.raises(ConfigurationError, match=answer):
            run(small_config(markov_dataset, tmp_path, "overwrite=true", *wrong.split()))
        assert [path.name for path in tmp_path.rglob("*")] == ["runs", "tiny", "kept"], wrong


def test_an_epoch_is_one_line_without_a_terminal(markov_dataset, tmp_path, capfd):
    run(small_config(markov_dataset, tmp_path))
    lines = capfd.readouterr().err.splitlines()
    assert [re.sub(r"\d\.\d+", "N", line) for line in lines] == [
        f"epoch {epoch} of at most 2  train_loss N  val_ndcg@10 N  N s" for epoch in (1, 2)
    ]


def test_a_run_that_saved_nothing_cannot_be_resumed(markov_dataset, tmp_path):
    (tmp_path / "runs" / "tiny" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="tiny holds a run that has saved nothing yet: choose another name"):
        run(small_config(markov_dataset, tmp_path))


def test_there_must_be_something_to_resume(markov_dataset, tmp_path):
    with pytest.raises(ConfigurationError, match=r"resume=true, but .*last.ckpt does not exist"):
        run(small_config(markov_dataset, tmp_path, "resume=true"))


def test_an_empty_validation_split_is_said_in_a_sentence(tmp_path):
    folder = write_shop(tmp_path / "dataset", [[0, 1, 2, 3, 4]] * 9, num_products=5)
    np.save(folder / "sequences" / "split.npy", np.tile(np.array([0, 0, 0, 0, 2], dtype=np.int8), 9))
    with pytest.raises(DatasetError, match="validation split holds no target event: preprocess a log in which"):
        run(small_config(folder, tmp_path))


def test_a_run_is_continued_with_the_model_it_began_with(markov_dataset, tmp_path):
    run(small_config(markov_dataset, tmp_path, "max_epochs=1"))
    for wrong, answer in (
        ("model.embedding_dim=16", r"resume=true with model.embedding_dim=16, but .*tiny began with 8: a run goes on"),
        ("average_epochs=0", r"resume=true with average_epochs=0, but .*tiny began with \d"),
    ):
        with pytest.raises(ConfigurationError, match=answer):
            run(small_config(markov_dataset, tmp_path, "resume=true", wrong))
    assert run(small_config(markov_dataset, tmp_path, "resume=true", "max_epochs=2")).epochs == 2


def test_a_missing_dataset_is_said_in_a_sentence(tmp_path):
    with pytest.raises(DatasetError, match=r"no processed dataset at .*nowhere: make it with"):
        run(small_config(Path("nowhere"), tmp_path))


def test_gpu_without_a_gpu_is_said_in_a_sentence(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="trainer=gpu needs a CUDA device"):
        run(small_config(markov_dataset, tmp_path, "trainer=gpu"))
