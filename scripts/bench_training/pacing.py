"""A Lightning callback that lets contenders train by turns, counts what they did, and times nothing but training.

All three contenders train with Lightning, under two package names; the callback is made for either.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.bench_training.logs import Log, sample_users
from scripts.bench_training.scoring import Vectors, quality, ranks_of_targets

WARM_UP_STEPS = 3
"""Steps of a process before its first segment of a speed measurement begins."""

FIRST_EVALUATION_S = 5.0
"""Seconds of training before the first point of a curve."""

EVALUATION_GROWTH = 1.1
"""Each later point waits until this many times the seconds of the one before, plus the first wait."""


class Stopped(Exception):  # noqa: N818  not an error: the turn is over
    """Raised inside training when the orchestrator wants no more."""


class Count(NamedTuple):
    """What one batch held."""

    sequences: int
    """rows: users for the peers, windows for RoomRec"""
    targets: int
    """places at which the loss is taken"""
    places: int
    """places the encoder computes, padding included"""


class Link:
    """Lines of JSON between a worker and the orchestrator: commands on stdin, answers on what stdout was.

    What libraries print goes to stderr instead.
    """

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def send(self, **answer: Any) -> None:
        """Answer."""
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for a command; a closed pipe means stop."""
        line = sys.stdin.readline()
        command: dict[str, Any] = json.loads(line) if line else {"stop": True}
        return command


class Pacing:
    """The part of the callback that knows no Lightning.

    Args:
        link: To the orchestrator.
        log: The data.
        count: What a batch held.
        vectors: Of some users as of a part, from the module in training.
        evaluates: Whether to draw a curve of validation quality.
        queries: Users of a point of the curve; 0 takes all.
        state: File in which to keep what an interrupted run continues from; None keeps nothing.
        seed: Of the users chosen, and of what an interrupted run continues with.
    """

    def __init__(
        self,
        *,
        link: Link,
        log: Log,
        count: Callable[[Any], Count],
        vectors: Callable[[Any, Any, str], Vectors],
        evaluates: bool,
        queries: int,
        state: Path | None,
        seed: int,
    ) -> None:
        self._link = link
        self._log = log
        self._count = count
        self._vectors = vectors
        self._evaluates = evaluates
        self._users = sample_users(log, queries, seed=seed)
        self._state = state
        self._seed = seed
        self._module: Any = None
        self._steps = 0
        self._clock = Clock()
        self._segment = np.zeros(3, dtype=np.int64)
        self._segment_steps = 0
        self._segment_length = 0.0
        self._next_evaluation = FIRST_EVALUATION_S
        self.curve: list[list[float]] = []
        self._best: dict[str, Any] | None = None

    def __deepcopy__(self, memo: Any) -> "Pacing":
        return self  # RecTools copies its trainer

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Announce that training is ready, or go on counting time."""
        if self._module is None:
            self._module = pl_module
            self._restore(trainer, pl_module)
            if self._evaluates:
                self._wait(trainer, pl_module)
        self._clock.start()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop counting: what other callbacks do between epochs is not training."""
        self._clock.stop()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Count what the batch holds."""
        self._segment += self._count(batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """End the segment, or draw a point of the curve, when it is time."""
        self._steps += 1
        self._segment_steps += 1
        warm_up = 0 if self._evaluates else WARM_UP_STEPS
        if self._steps == warm_up or (self._steps > warm_up and self._clock.of_segment() >= self._segment_length):
            self._wait(trainer, pl_module)
        elif self._evaluates and self._clock.seconds() >= self._next_evaluation:
            self._evaluate(pl_module)

    def seconds(self) -> float:
        """Return how long training took, nothing else counted."""
        return self._clock.seconds()

    def finish(self) -> dict[str, Any]:
        """Put the weights of the best point of the curve into the module and return their quality, on all users."""
        self._clock.stop()
        if not self._evaluates or self._best is None:
            return {}
        self._module.load_state_dict(self._best)
        everybody = np.arange(len(self._log.user_ids))
        found = {}
        for part in ("validation", "test"):
            vectors = self._vectors(self._module, everybody, part)
            measured = quality(ranks_of_targets(vectors, self._log, everybody, part=part))
            found |= {f"{part}_{name}": value for name, value in measured.items()}
        return found

    def _wait(self, trainer: Any, pl_module: Any) -> None:
        """Report the segment and wait for the next turn."""
        running = self._clock.stop()
        if self._evaluates and self._segment_steps:
            self._save(trainer, pl_module)
        segment = self._clock.take_segment()
        sequences, targets, places = (int(number) for number in self._segment)
        self._link.send(
            segment={
                **segment,
                "steps": self._segment_steps,
                "sequences": sequences,
                "targets": targets,
                "places": places,
            },
            clock=self._clock.seconds(),
            peak_memory_mb=peak_memory_mb(),
            curve=self.curve,
        )
        command = self._link.receive()
        if "stop" in command:
            raise Stopped
        self._segment[:] = 0
        self._segment_steps = 0
        self._segment_length = float(command["seconds"])
        if running:
            self._clock.start()

    def _evaluate(self, pl_module: Any) -> None:
        self._clock.stop()
        ranks = ranks_of_targets(
            self._vectors(pl_module, self._users, "validation"), self._log, self._users, part="validation"
        )
        ndcg = quality(ranks)["ndcg@10"]
        seconds, cpu_seconds = self._clock.totals()
        if self._best is None or ndcg > max(value for *_, value in self.curve):
            self._best = {name: value.detach().clone() for name, value in pl_module.state_dict().items()}
        self.curve.append([round(seconds, 2), round(cpu_seconds, 2), ndcg])
        self._next_evaluation = seconds * EVALUATION_GROWTH + FIRST_EVALUATION_S
        self._clock.start()

    def _save(self, trainer: Any, pl_module: Any) -> None:
        if self._state is None:
            return
        import torch

        state = {
            "module": pl_module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "best": self._best,
            "curve": self.curve,
            "clock": self._clock.totals(),
            "steps": self._steps,
            "next_evaluation": self._next_evaluation,
        }
        torch.save(state, self._state.with_suffix(".new"))
        self._state.with_suffix(".new").replace(self._state)

    def _restore(self, trainer: Any, pl_module: Any) -> None:
        if self._state is None or not self._state.exists():
            return
        import torch

        state = torch.load(self._state, weights_only=True)
        pl_module.load_state_dict(state["module"])
        for optimizer, saved in zip(trainer.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._best, self.curve = state["best"], state["curve"]
        torch.manual_seed(self._seed + state["steps"])  # another order than the one it began with
        self._steps = state["steps"]
        self._clock = Clock(*state["clock"])
        self._next_evaluation = state["next_evaluation"]


class Clock:
    """Seconds and CPU seconds of this process, while it runs.

    Args:
        seconds: What earlier processes of the same run took.
        cpu_seconds: The same of the CPU.
    """

    def __init__(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        self._total = [seconds, cpu_seconds]
        self._segment = [0.0, 0.0]
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Run."""
        if self._since is None:
            self._since = (time.perf_counter(), time.process_time())

    def stop(self) -> bool:
        """Stand still; tell whether it ran."""
        if self._since is None:
            return False
        for place, (now, then) in enumerate(zip((time.perf_counter(), time.process_time()), self._since, strict=True)):
            self._total[place] += now - then
            self._segment[place] += now - then
        self._since = None
        return True

    def seconds(self) -> float:
        """Return seconds in all."""
        return self._total[0] + self._running()

    def of_segment(self) -> float:
        """Return seconds since the segment began."""
        return self._segment[0] + self._running()

    def totals(self) -> tuple[float, float]:
        """Return seconds and CPU seconds in all; it must stand still."""
        return self._total[0], self._total[1]

    def take_segment(self) -> dict[str, float]:
        """End the segment and return what it took."""
        seconds, cpu_seconds = self._segment
        self._segment = [0.0, 0.0]
        return {"seconds": seconds, "cpu_seconds": cpu_seconds}

    def _running(self) -> float:
        return 0.0 if self._since is None else time.perf_counter() - self._since[0]


def peak_memory_mb() -> float:
    """Return the most resident memory this process and its children ever had, added up, in MB."""
    total = 0
    waiting = [os.getpid()]
    while waiting:
        process = waiting.pop()
        try:
            status = Path(f"/proc/{process}/status").read_text()
            for task in Path(f"/proc/{process}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # it has just ended
            continue
        total += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
    return round(total / 1024, 1)


def make_callback(callback_class: type, **settings: Any) -> Any:
    """Make the callback for the Lightning package that ``callback_class`` comes from; settings as in ``Pacing``."""
    return type("PacingCallback", (Pacing, callback_class), {})(**settings)
