"""Where the time of an epoch goes: the parts are told apart and add up."""

from types import SimpleNamespace

import pytest
import torch

from scripts.bench_training import profiling


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class TestProfile:
    def test_each_part_of_a_step_is_timed_by_itself(self, monkeypatch):
        clock = Clock()
        monkeypatch.setattr(profiling.time, "perf_counter", clock)
        watch = profiling.EpochWatch()

        class Sgd(torch.optim.SGD):
            def step(self, closure=None):
                clock.wait(16.0)

        optimizer = Sgd([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

        class Module:
            def log(self):
                clock.wait(0.5)

            def on_before_optimizer_step(self, optimizer): ...

            def optimizer_step(self):
                clock.wait(4.0)
                self.log()
                watch.on_before_backward(trainer, self, None)
                clock.wait(8.0)
                watch.on_after_backward(trainer, self)
                clock.wait(2.0)  # the guard
                self.on_before_optimizer_step(optimizer)
                optimizer.step()
                clock.wait(1.0)  # the average

        module = Module()
        trainer = SimpleNamespace(current_epoch=1, num_training_batches=2, optimizers=[optimizer])
        watch.on_train_start(trainer, module)
        watch.on_train_epoch_start(trainer, module)
        for step in range(2):
            clock.wait(3.5)
            watch.on_train_batch_start(trainer, module, None, step)
            module.optimizer_step()
            watch.on_train_batch_end(trainer, module, None, None, step)
        watch.on_train_epoch_end(trainer, module)
        result = watch.result()
        assert result["epoch_s"] == 70.0  # 35 a step
        assert result["steps"] == 2
        parts = ("forward", "backward", "guard", "optimizer", "average", "logging", "between_steps")
        assert [round(result[part] * 35, 2) for part in parts] == [4.5, 8.0, 2.0, 16.0, 1.0, 0.5, 3.5]
        assert result["outside"] == pytest.approx(1 - 28 / 35)
