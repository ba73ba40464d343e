"""A run that was interrupted goes on exactly as if it had not been."""

import csv
import os
import signal
from pathlib import Path

import pytest
from pytorch_lightning import Callback

from tests.training.test_train import small_config
from training import trainer as trainer_module
from training.run_folder import TrainingInterrupted, load_trained_model
from training.train import run


class _StopAt(Callback):
    """Presses Ctrl-C during a step, and writes down the loss of every step."""

    def __init__(self, step: int | None, losses: dict[int, float]) -> None:
        self.step, self.losses = step, losses

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses[trainer.global_step] = float(outputs["loss"])

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def train(monkeypatch, markov_dataset, tmp_path):
    """Train with extra spying, optionally with Ctrl-C at a step."""
    build = trainer_module.build_trainer

    def start(*overrides: str, stop_at: int | None = None) -> tuple[object, dict[int, float]]:
        losses: dict[int, float] = {}

        def build_and_spy(*args, **kwargs):
            trainer = build(*args, **kwargs)
            trainer.callbacks.insert(0, _StopAt(stop_at, losses))
            return trainer

        monkeypatch.setattr(trainer_module, "build_trainer", build_and_spy)
        config = small_config(markov_dataset, tmp_path, "max_epochs=3", "batches.batch_size=50", *overrides)
        try:
            return run(config), losses
        except TrainingInterrupted as interruption:
            return str(interruption), losses

    return start


def weights(folder: Path) -> list:
    return [value.tolist() for value in load_trained_model(folder).model.state_dict().values()]


# Six batches an epoch: the first step, mid-epoch, the last step of an epoch, the first and a middle one of the next.
@pytest.mark.parametrize("stop_at", [1, 4, 6, 7, 10])
def test_ctrl_c_then_resume_equals_an_uninterrupted_run(train, stop_at):
    whole, all_losses = train("name=whole")
    assert len(all_losses) == 18

    message, first_losses = train("name=halves", stop_at=stop_at)
    assert f"stopped after step {stop_at}" in message
    assert sorted(first_losses) == list(range(1, stop_at + 1))
    resumed, later_losses = train("name=halves", "resume=true")
    assert sorted(later_losses) == list(range(stop_at + 1, 19))

    assert first_losses | later_losses == all_losses
    assert resumed.epochs == whole.epochs == 3
    assert resumed.best == whole.best
    assert weights(resumed.folder) == weights(whole.folder)


def test_a_second_ctrl_c_stops_at_once(monkeypatch, train):
    step = _StopAt.on_train_batch_start

    def twice(self, *args):
        step(self, *args)
        step(self, *args)

    monkeypatch.setattr(_StopAt, "on_train_batch_start", twice)
    message, losses = train("name=halves", stop_at=9)
    assert message == "stopped at once, only finished epochs are saved"
    assert sorted(losses) == list(range(1, 9))
    monkeypatch.undo()
    _, later = train("name=halves", "resume=true")
    assert sorted(later) == list(range(7, 19))


def test_metrics_go_on_below_the_rows_that_are_there(train):
    train("name=halves", stop_at=8)
    result, _ = train("name=halves", "resume=true")
    rows = list(csv.DictReader((result.folder / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows if row["val_ndcg@10"]] == ["0", "1", "2"]


def test_two_towers_resume_too(train):
    _, all_losses = train("name=whole", "model=two_tower", "batches.batch_size=500")
    _, first = train("name=halves", "model=two_tower", "batches.batch_size=500", stop_at=5)
    _, later = train("name=halves", "model=two_tower", "batches.batch_size=500", "resume=true")
    assert first | later == all_losses


def test_batches_of_whole_users_resume_too(train):
    settings = ("model=two_tower_graph", "negatives=popularity", "negatives.num_negatives=6")
    whole, all_losses = train("name=whole", *settings)
    assert len(all_losses) == 18
    _, first = train("name=halves", *settings, stop_at=9)
    resumed, later = train("name=halves", *settings, "resume=true")
    assert sorted(later) == list(range(10, 19))
    assert first | later == all_losses
    assert weights(resumed.folder) == weights(whole.folder)
