"""The average of the weights, and the warm-up."""

from types import SimpleNamespace

import pytest
import torch

from tests.training.test_train import small_config
from training.modules.recommender import RecommenderModule
from training.run_folder import BEST_CHECKPOINT, load_trained_model
from training.train import run


def checkpoint(folder):
    return torch.load(folder / BEST_CHECKPOINT, weights_only=True)


def test_the_average_is_what_is_loaded(markov_dataset, tmp_path):
    folder = run(small_config(markov_dataset, tmp_path, "max_epochs=1")).folder
    state = checkpoint(folder)["state_dict"]
    name = "user_encoder.position.weight"
    assert not torch.equal(state[f"averaged.{name}"], state[f"model.{name}"])
    assert torch.equal(load_trained_model(folder).model.state_dict()[name], state[f"averaged.{name}"])


def test_without_an_average_the_weights_are(markov_dataset, tmp_path):
    folder = run(small_config(markov_dataset, tmp_path, "max_epochs=1", "average_epochs=0")).folder
    state = checkpoint(folder)["state_dict"]
    assert not any(key.startswith("averaged.") for key in state)
    name = "user_encoder.position.weight"
    assert torch.equal(load_trained_model(folder).model.state_dict()[name], state[f"model.{name}"])


def test_the_first_steps_are_averaged_over_a_shorter_past(monkeypatch):
    # One weight that each step sets to its number: after steps 1 and 2 with decays 2/11 and 3/12 of the past.
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    module = RecommenderModule(
        model=model, loss=torch.nn.Identity(), optimizer=torch.optim.SGD, seed=0, average_epochs=2
    )
    steps = iter([1, 2])

    class _Trainer:
        global_step = 0
        num_training_batches = 100

    def step(self, *args, **kwargs):
        _Trainer.global_step = next(steps)
        model.weight.data.fill_(float(_Trainer.global_step))

    monkeypatch.setattr("pytorch_lightning.LightningModule.optimizer_step", step)
    monkeypatch.setattr(RecommenderModule, "trainer", _Trainer)
    module.optimizer_step()
    assert module.averaged.weight.item() == pytest.approx(9 / 11)
    module.optimizer_step()
    assert module.averaged.weight.item() == pytest.approx(0.25 * 9 / 11 + 0.75 * 2)


def test_the_memory_of_the_average_is_counted_in_epochs(monkeypatch):
    # Two epochs of five steps: a tenth of each new weight, so the weight that was 1 until now becomes 1 + 0.1.
    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    module = RecommenderModule(
        model=model, loss=torch.nn.Identity(), optimizer=torch.optim.SGD, seed=0, average_epochs=2
    )
    monkeypatch.setattr("pytorch_lightning.LightningModule.optimizer_step", lambda self: model.weight.data.fill_(2.0))
    monkeypatch.setattr(RecommenderModule, "trainer", SimpleNamespace(global_step=1000, num_training_batches=5))
    module.optimizer_step()
    assert module.averaged.weight.item() == pytest.approx(1.1)


def test_the_learning_rate_rises_over_the_warm_up():
    module = RecommenderModule(
        model=torch.nn.Linear(1, 1),
        loss=torch.nn.Identity(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        seed=0,
        warmup_steps=4,
    )
    configured = module.configure_optimizers()
    rates = []
    for _ in range(6):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
