"""The callback that makes contenders take turns: what it counts, when it evaluates, how an interrupted run goes on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scripts.bench_training import logs, pacing
from scripts.bench_training.pacing import Count, Pacing, Stopped
from scripts.bench_training.scoring import Vectors

LOG = logs.Log(np.array([7, 9]), np.array([10, 20, 30, 40]), np.array([0, 4, 8]), np.array([0, 1, 2, 3, 3, 2, 1, 0]))
"""User 7 had 10 20 30 40, user 9 had 40 30 20 10: validation asks for items 2 and 1."""

SCORES = {
    0.0: [0.0, 1.0, 3.0, 0.0],  # both users have theirs first: 2 before 3, 1 before 0
    1.0: [9.0, 3.0, 3.0, 0.0],  # the second user has 0 before 1
    2.0: [9.0, 3.0, 2.0, 9.0],  # both have theirs second
}
"""Item scores of a module whose weight is the key."""


class Link:
    """An orchestrator whose commands are known."""

    def __init__(self, *commands: dict) -> None:
        self._commands = list(commands)
        self.answers: list[dict] = []

    def send(self, **answer: object) -> None:
        self.answers.append(answer)

    def receive(self) -> dict:
        return self._commands.pop(0)


def vectors(module, users, part) -> Vectors:
    """One user vector for everybody, item vectors by the weight."""
    items = np.array(SCORES[float(module.weight.detach().sum())], dtype=np.float32)[:, None]
    return Vectors(np.ones((len(users), 1), dtype=np.float32), items, np.ones(4, dtype=bool))


def make(link: Link, *, evaluates: bool, state=None) -> Pacing:
    """A callback without Lightning."""
    return Pacing(
        link=link,
        log=LOG,
        count=lambda batch: Count(*batch),
        vectors=vectors,
        evaluates=evaluates,
        queries=0,
        state=state,
        seed=0,
    )


def make_training() -> tuple[SimpleNamespace, torch.nn.Module]:
    """A trainer and a module of one weight, 0."""
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    return SimpleNamespace(optimizers=[torch.optim.Adam(module.parameters())]), module


def step(callback: Pacing, trainer, module, batch=(2, 3, 8)) -> None:
    """What Lightning does with a batch."""
    callback.on_train_batch_start(trainer, module, batch, 0)
    callback.on_train_batch_end(trainer, module, None, batch, 0)


def test_the_first_steps_are_warm_up_and_not_counted():
    link = Link({"seconds": 0.0}, {"stop": True})
    callback, (trainer, module) = make(link, evaluates=False), make_training()
    callback.on_train_epoch_start(trainer, module)
    for _ in range(pacing.WARM_UP_STEPS):
        step(callback, trainer, module, (1, 1, 1))
    with pytest.raises(Stopped):
        step(callback, trainer, module, (2, 3, 8))
    counted = {name: link.answers[1]["segment"][name] for name in ("steps", "sequences", "targets", "places")}
    assert counted == {"steps": 1, "sequences": 2, "targets": 3, "places": 8}
    assert link.answers[1]["peak_memory_mb"] > 10


def test_the_best_point_of_the_curve_is_what_counts(monkeypatch):
    monkeypatch.setattr(pacing, "FIRST_EVALUATION_S", 0.0)
    monkeypatch.setattr(pacing, "EVALUATION_GROWTH", 0.0)
    callback, (trainer, module) = make(Link({"seconds": 1000.0}), evaluates=True), make_training()
    callback.on_train_epoch_start(trainer, module)
    for weight in (1.0, 0.0, 2.0):
        torch.nn.init.constant_(module.weight, weight)
        step(callback, trainer, module)
    second = 1 / np.log2(3)
    assert [ndcg for *_, ndcg in callback.curve] == pytest.approx([(1 + second) / 2, 1.0, second])
    found = callback.finish()
    assert float(module.weight.detach()) == 0.0
    assert found == {"validation_ndcg@10": 1.0, "validation_hr@10": 1.0, "test_ndcg@10": 1.0, "test_hr@10": 1.0}


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    first, (trainer, module) = (
        make(Link({"seconds": 0.0}, {"stop": True}), evaluates=True, state=tmp_path / "s.pt"),
        make_training(),
    )
    first.on_train_epoch_start(trainer, module)
    torch.nn.init.constant_(module.weight, 2.0)
    first.curve = [[1.0, 1.0, 0.5]]
    with pytest.raises(Stopped):
        step(first, trainer, module)

    link = Link({"seconds": 1.0})
    second, (trainer, module) = make(link, evaluates=True, state=tmp_path / "s.pt"), make_training()
    second.on_train_epoch_start(trainer, module)
    assert float(module.weight.detach()) == 2.0
    assert link.answers[0]["curve"] == [[1.0, 1.0, 0.5]]
    assert link.answers[0]["clock"] == first.seconds() > 0


def test_between_epochs_no_time_passes(monkeypatch):
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(pacing.time, "perf_counter", lambda: float(next(now)))
    callback, (trainer, module) = make(Link({"seconds": 1000.0}), evaluates=True), make_training()
    callback.on_train_epoch_start(trainer, module)  # at 0
    callback.on_train_epoch_end(trainer, module)  # at 10
    next(now)
    callback.on_train_epoch_start(trainer, module)  # at 30
    callback.on_train_epoch_end(trainer, module)  # at 40
    assert callback.seconds() == 20.0
