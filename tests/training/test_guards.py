"""What stops a run, what it leaves, and the smoke test."""

import math
import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Callback

from roomrec.errors import ConfigurationError, TrainingError
from roomrec.sequences.dataset import ProcessedDataset
from tests.runs import config_of
from tests.training.test_train import small_config
from training import overfitting, replay
from training import trainer as trainer_module
from training.assembly import make_source
from training.callbacks.bad_loss import LossWatch, StopOnBadLoss, gradient_norm
from training.callbacks.interruption import SaveOnInterrupt
from training.run_folder import LAST_CHECKPOINT, TrainingInterrupted
from training.saved_batch import load_batch
from training.train import run


def test_a_loss_may_rise_but_not_run_away():
    watch = LossWatch(max_ratio=5)
    # it began with 8, fell to 1, and jumps
    assert [watch.problem_of(loss, 1.0) for loss in [8.0] * 20 + [1.0] * 400] == [None] * 420
    assert watch.problem_of(7.0, 1.0) is None  # seven times the mean, but no more than it began with
    assert watch.problem_of(30.0, 1.0) == "the loss is 30, more than 5 times its running mean of 1.122"
    assert LossWatch(max_ratio=None).problem_of(1e30, 1.0) is None
    assert watch.problem_of(float("nan"), 1.0) == "the loss is nan"
    assert watch.problem_of(1.0, float("nan")) == "the gradient's norm is nan"


def test_the_norm_of_dense_and_sparse_gradients():
    dense, sparse, idle = (torch.nn.Parameter(torch.zeros(3)) for _ in range(3))
    dense.grad = torch.tensor([2.0, 0.0, 1.0])
    sparse.grad = torch.sparse_coo_tensor([[1]], [2.0], (3,), check_invariants=True)
    assert float(gradient_norm([dense, sparse, idle])) == 3.0


def test_the_norm_of_no_gradient_lies_where_the_loss_does():
    idle = torch.nn.Parameter(torch.zeros(3))
    assert gradient_norm([idle], device=torch.device("meta")).device.type == "meta"
    assert float(gradient_norm([idle])) == float(gradient_norm([])) == 0.0


class _Spoil(Callback):
    """Breaks the weights before a step."""

    def __init__(self, step: int, value: float) -> None:
        self.step, self.value = step, value

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            with torch.no_grad():
                for weight in pl_module.model.parameters():
                    weight.mul_(self.value)


class _Interrupt(Callback):
    """Asks to stop during a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            next(one for one in trainer.callbacks if isinstance(one, SaveOnInterrupt)).ask()


class _OnGpu(torch.Tensor):
    """A number that says it lies on a GPU, so that it is judged late."""

    @property
    def device(self):
        return torch.device("cuda")


@pytest.fixture
def train(monkeypatch, markov_dataset, tmp_path):
    """Train with weights that break before a step."""
    build = trainer_module.build_trainer

    def start(*overrides: str, step: int, value: float, model: str = "sasrec", interrupt_at: int | None = None):
        def build_and_spoil(*args, **kwargs):
            trainer = build(*args, **kwargs)
            trainer.callbacks.insert(0, _Spoil(step, value))
            if interrupt_at is not None:
                trainer.callbacks.insert(0, _Interrupt(interrupt_at))
            return trainer

        monkeypatch.setattr(trainer_module, "build_trainer", build_and_spoil)
        settings = (f"model={model}", "max_epochs=3", "batches.batch_size=50")
        return run(small_config(markov_dataset, tmp_path, *settings, *overrides))

    return start


@pytest.mark.parametrize("model", ["sasrec", "two_tower"])
def test_a_nan_stops_the_run_and_leaves_the_batch(train, tmp_path, model):
    with pytest.raises(TrainingError, match=r"stopped at step 9, batch \d+ of epoch \d+: the loss is nan") as error:
        train(step=8, value=float("nan"), model=model)
    path = tmp_path / "runs" / "tiny" / "stopped" / "step-8-rank-0.pt"
    assert f"python -m training.replay batch={path}" in str(error.value)
    assert torch.load(path, weights_only=True)["seed"] == 0
    saved = load_batch(path)
    assert (saved.global_step, saved.reason, saved.rank) == (8, "the loss is nan", 0)
    # the batch is the one that was drawn, and the replay sees what training saw
    config = OmegaConf.load(path.parents[1] / "config.yaml")
    drawn = make_source(config, ProcessedDataset.open(Path(config.dataset))).batch(saved.epoch, saved.step)
    assert torch.equal(drawn.candidates.positive, saved.batch.candidates.positive)
    replayed = replay.run(config_of("replay", batch=path))
    assert math.isnan(replayed.loss)
    assert replayed.weights_from == "the step itself"


@pytest.mark.parametrize("value", [float("nan"), 1.0])
def test_ctrl_c_saves_no_weights_that_were_not_judged(train, monkeypatch, tmp_path, value):
    remember = StopOnBadLoss.on_before_backward
    late = lambda self, trainer, module, loss: remember(self, trainer, module, loss.as_subclass(_OnGpu))  # noqa: E731
    monkeypatch.setattr(StopOnBadLoss, "on_before_backward", late)
    with pytest.raises((TrainingError, TrainingInterrupted)) as error:
        train("batches.batch_size=4", step=8, value=value, interrupt_at=12)
    last = tmp_path / "runs" / "tiny" / LAST_CHECKPOINT
    if math.isnan(value):
        assert "stopped at step 9," in str(error.value)
        assert "the loss is nan" in str(error.value)
        assert not last.exists()
    else:
        assert str(error.value) == f"stopped after step 13, saved {last}"
        assert last.exists()


def test_a_replay_repeats_the_loss(train, tmp_path):
    with pytest.raises(TrainingError, match=r"more than 1\.5 times its running mean") as error:
        train("guard.max_loss_ratio=1.5", "negatives=uniform", "batches.batch_size=12", step=30, value=1000.0)
    path = tmp_path / "runs" / "tiny" / "stopped" / "step-30-rank-0.pt"
    said = float(re.search(r"the loss is ([\d.e+]+),", str(error.value)).group(1))
    replayed = replay.run(config_of("replay", batch=path))
    assert replayed.loss == pytest.approx(said, rel=1e-3)
    assert replayed.reason in str(error.value)
    assert len(replayed.gradients) > 5
    # without the weights a replay falls back on the last checkpoint
    held = torch.load(path, weights_only=True) | {"weights": None}
    torch.save(held, path)
    assert replay.run(config_of("replay", batch=path)).weights_from.endswith("last.ckpt")


def test_what_cannot_be_replayed_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no such file"):
        replay.run(config_of("replay", batch=tmp_path / "nowhere.pt"))
    (tmp_path / "stopped").mkdir()
    torch.save({"a": 1}, tmp_path / "stopped" / "other.pt")
    with pytest.raises(ConfigurationError, match=r"has no config\.yaml"):
        replay.run(config_of("replay", batch=tmp_path / "stopped" / "other.pt"))
    (tmp_path / "config.yaml").touch()
    with pytest.raises(TrainingError, match="holds no batch saved by a training run"):
        replay.run(config_of("replay", batch=tmp_path / "stopped" / "other.pt"))


@pytest.mark.parametrize("model", ["sasrec", "two_tower"])
def test_one_batch_is_learned_by_heart_and_nothing_is_written(markov_dataset, tmp_path, model):
    fit = overfitting.overfit_one_batch(
        small_config(markov_dataset, tmp_path, f"model={model}", "optimizer.lr=0.01", "model.embedding_dim=32")
    )
    assert fit.last_loss < 0.1 * fit.first_loss
    assert list(tmp_path.iterdir()) == []


def test_a_batch_that_cannot_be_learned_is_said(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(overfitting, "MAX_STEPS", 3)
    with pytest.raises(TrainingError, match=r"in 3 steps, .* Is the learning rate right \(optimizer.lr=1e-09"):
        overfitting.overfit_one_batch(small_config(markov_dataset, tmp_path, "optimizer.lr=1e-9"))


def test_a_long_run_says_what_it_will_take(markov_dataset, tmp_path, capfd):
    run(small_config(markov_dataset, tmp_path, "batches.batch_size=4"))
    lines = [line for line in capfd.readouterr().err.splitlines() if "weights" in line]
    assert len(lines) == 1
    assert re.fullmatch(
        r"[\d,]+ weights, \d+ [MG]B with gradients and optimiser; 75 steps an epoch at \d+ ms: about [\d.]+ s an epoch "
        r"and at most [\d.]+ (s|min) for 2, validation not counted; about [\d.]+ [MG]B of memory",
        lines[0],
    )
