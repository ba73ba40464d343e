"""Where the time of an epoch goes: RoomRec alone, one epoch timed in full, then two profilers on a few steps.

``python -m scripts.bench_training.profiling SPEC.json`` is the process that is profiled.
"""

import argparse
import contextlib
import cProfile
import io
import json
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from scripts.bench_training.contenders import CONTENDERS, DATA, SIZES
from scripts.bench_training.environments import ROOT
from scripts.bench_training.pacing import Stopped

_CPROFILE_STEPS: Final = 50
_TORCH_STEPS: Final = 20
_ROWS: Final = 25


def measure(options: argparse.Namespace, work: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Profile each data set at each loss.

    Args:
        options: The command line.
        work: Folder of everything kept.
        report: Told what happens.

    Returns:
        By data set and loss what ``EpochWatch.result`` returns.
    """
    found = {}
    contender = CONTENDERS["roomrec"]
    for data in (DATA[name] for name in options.data):
        processed = work / "processed" / data.name
        if not processed.exists():
            raise SystemExit(f"{processed} does not exist: compare on {data.name} first")
        for loss in options.losses:
            folder = work / "runs" / f"profile.{data.name}.{loss}"
            folder.mkdir(parents=True, exist_ok=True)
            spec = SIZES | {
                "loss": loss,
                "length": data.length,
                "log": str(work / "processed" / f"{data.name}.npz"),
                "dataset": str(processed),
                "folder": str(folder),
                "threads": options.threads,
                "seed": options.seed,
                "overrides": [*contender.overrides(data, loss, "speed"), "validation.max_queries=5000", *options.set],
            }
            (folder / "spec.json").write_text(json.dumps(spec))
            threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
            done = subprocess.run(
                [sys.executable, "-m", "scripts.bench_training.profiling", str(folder / "spec.json")],
                cwd=ROOT,
                env=os.environ | threads,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            result = json.loads(done.stdout.splitlines()[-1])
            report(f"{data.name}, {loss}: {result['outside']:.1%} of an epoch outside forward, backward and optimiser")
            found[f"{data.name}, {loss}"] = result
    return found


class EpochWatch:
    """Times the parts of the second epoch, and profiles steps of the third; a part of a callback.

    Lightning runs forward, backward and the optimiser inside the module's ``optimizer_step``, which is wrapped; calls
    of the module's ``log`` within are taken off again. Between backward and the optimiser callbacks look at the
    gradients, ``guard``; after the optimiser the module moves the average of its weights, ``average``.
    """

    def __init__(self) -> None:
        names = ("forward", "backward", "guard", "optimizer", "average", "logging", "between_steps")
        self._parts = dict.fromkeys(names, 0.0)
        self._epoch_s = self._between_epochs_s = 0.0
        self._began = self._forward_began = self._backward_began = self._backward_ended = 0.0
        self._guard_ended = self._optimizer_ended = self._step_ended = 0.0
        self._steps = 0
        self._steps_of_third = 0
        self._cprofile = cProfile.Profile()
        self._torch: Any = None
        self._tables: dict[str, str] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Wrap what is to be timed."""
        step, log, before = pl_module.optimizer_step, pl_module.log, pl_module.on_before_optimizer_step

        def timed_step(*arguments: Any, **settings: Any) -> None:
            self._forward_began = time.perf_counter()
            step(*arguments, **settings)
            self._parts["average"] += time.perf_counter() - self._optimizer_ended

        def timed_before(*arguments: Any, **settings: Any) -> None:
            before(*arguments, **settings)  # the module's turn is after all callbacks'
            self._guard_ended = time.perf_counter()
            self._parts["guard"] += self._guard_ended - self._backward_ended

        def stepped(*arguments: Any, **settings: Any) -> None:
            self._optimizer_ended = time.perf_counter()
            self._parts["optimizer"] += self._optimizer_ended - self._guard_ended

        def timed_log(*arguments: Any, **settings: Any) -> None:
            began = time.perf_counter()
            log(*arguments, **settings)
            self._parts["logging"] += time.perf_counter() - began

        pl_module.optimizer_step, pl_module.log = timed_step, timed_log
        pl_module.on_before_optimizer_step = timed_before
        (optimizer,) = trainer.optimizers
        optimizer.register_step_post_hook(stepped)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the second epoch's account."""
        if trainer.current_epoch == 2:
            self._between_epochs_s = time.perf_counter() - self._began - self._epoch_s
        if trainer.current_epoch == 1:
            self._parts = dict.fromkeys(self._parts, 0.0)
            self._began = self._step_ended = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """End it, before validation."""
        if trainer.current_epoch == 1:
            self._epoch_s = time.perf_counter() - self._began
            self._timed = dict(self._parts)
            self._steps = trainer.num_training_batches

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is there."""
        self._parts["between_steps"] += time.perf_counter() - self._step_ended
        if trainer.current_epoch < 2:
            return
        from torch.profiler import ProfilerActivity, profile

        if self._steps_of_third == 0:
            self._cprofile.enable()
        elif self._steps_of_third == _CPROFILE_STEPS:
            self._cprofile.disable()
            text = io.StringIO()
            pstats.Stats(self._cprofile, stream=text).sort_stats("tottime").print_stats(_ROWS)
            self._tables["cprofile"] = text.getvalue().replace(str(ROOT), ".")
            self._torch = profile(activities=[ProfilerActivity.CPU])
            self._torch.start()
        elif self._steps_of_third == _CPROFILE_STEPS + _TORCH_STEPS:
            self._torch.stop()
            averages = self._torch.key_averages()
            self._tables["torch_profiler"] = averages.table(sort_by="self_cpu_time_total", row_limit=_ROWS)
            raise Stopped
        self._steps_of_third += 1

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Forward is over."""
        self._backward_began = time.perf_counter()
        self._parts["forward"] += self._backward_began - self._forward_began

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Backward is over."""
        self._backward_ended = time.perf_counter()
        self._parts["backward"] += self._backward_ended - self._backward_began

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step is over."""
        self._step_ended = time.perf_counter()

    def result(self) -> dict[str, Any]:
        """Return seconds of the epoch, shares of it, and the profilers' tables.

        ``between_steps`` is mostly the making of batches; ``outside`` is all but forward, backward and optimiser, so
        the guard's norm of the gradients and the average of the weights are outside.
        Between epochs the run validates and saves: those seconds are not part of the epoch.
        """
        parts = self._timed
        inside = parts["forward"] + parts["backward"] + parts["optimizer"] - parts["logging"]
        shares = {name: round(seconds / self._epoch_s, 4) for name, seconds in parts.items()}
        epoch = {
            "epoch_s": round(self._epoch_s, 2),
            "between_epochs_s": round(self._between_epochs_s, 2),
            "steps": self._steps,
        }
        return {**epoch, "outside": round(1.0 - inside / self._epoch_s, 4), **shares, **self._tables}


def main(path: str) -> None:
    """Profile as the spec says, and print the result."""
    import torch
    from pytorch_lightning import Callback

    from scripts.bench_training import logs
    from scripts.bench_training.on_roomrec import Contender

    spec: dict[str, Any] = json.loads(Path(path).read_text())
    torch.set_num_threads(spec["threads"])
    torch.set_num_interop_threads(1)
    watch = type("EpochWatchCallback", (EpochWatch, Callback), {})()
    with contextlib.suppress(Stopped):
        Contender(spec, logs.load(Path(spec["log"]))).train(watch)
    sys.stdout.write(json.dumps(watch.result()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
