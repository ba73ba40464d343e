"""Replays of models that learn from more than a batch."""

import shutil
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from roomrec.errors import DatasetError, TrainingError
from tests import worlds
from tests.runs import config_of
from tests.training.test_train import small_config
from training import replay
from training import trainer as trainer_module
from training.train import run


class _Break(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 2:
            with torch.no_grad():
                pl_module.model.products.weight[5, 0] = float("inf")


@pytest.fixture
def stopped(monkeypatch, tmp_path) -> Path:
    """The batch at which a smoothed model was stopped."""
    build = trainer_module.build_trainer

    def build_and_break(*args, **kwargs):
        trainer = build(*args, **kwargs)
        trainer.callbacks.insert(0, _Break())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "build_trainer", build_and_break)
        shop = worlds.markov_chain_world(tmp_path / "shop")
        with pytest.raises(TrainingError, match="the loss is nan"):
            run(small_config(shop, tmp_path, "model=two_tower_graph"))
    return tmp_path / "runs" / "tiny" / "stopped" / "step-2-rank-0.pt"


def test_a_smoothed_model_is_replayed_with_the_graph_of_its_dataset(stopped):
    replayed = replay.run(config_of("replay", batch=stopped))
    assert (str(replayed.loss), replayed.weights_from) == ("nan", "the step itself")
    assert set(replayed.gradients) == {"users.weight", "products.weight"}
    # without the weights of the step, and before the first checkpoint, it is what training began with
    torch.save(torch.load(stopped, weights_only=True) | {"weights": None}, stopped)
    replayed = replay.run(config_of("replay", batch=stopped))
    assert replayed.weights_from == "the start of the run"
    assert 0.0 < replayed.loss < 30.0


def test_the_dataset_of_a_replay_must_be_what_it_was(stopped, tmp_path):
    shutil.rmtree(tmp_path / "shop")
    with pytest.raises(DatasetError, match="no processed dataset at"):
        replay.run(config_of("replay", batch=stopped))
    worlds.markov_chain_world(tmp_path / "shop", seed=2)
    with pytest.raises(DatasetError, match=r"shop as it was then, and .*shop holds something else: preprocess"):
        replay.run(config_of("replay", batch=stopped))
