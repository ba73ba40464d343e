"""The training job in two workers of Ray Train: the numbers of torchrun, Ctrl-C, resuming, mistakes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def start(dataset: Path, data_dir: Path, *overrides: str, launch: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    settings = [
        f"dataset={dataset}",
        f"data_dir={data_dir}",
        "trainer=sharded",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.tables.min_rows=10",
        "average_epochs=0",
        "model=two_tower",
        "model.embedding_dim=8",
        "batches.batch_size=64",
        *overrides,
    ]
    return subprocess.Popen(
        [sys.executable, *launch, "-m", "training.train", *settings],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(training: "subprocess.Popen[str]", code: int) -> str:
    output, _ = training.communicate(timeout=280)
    assert training.returncode == code, output
    return output


def test_two_workers_give_what_two_processes_of_torchrun_give(markov_dataset, tmp_path):
    finish(start(markov_dataset, tmp_path, "name=torchrun", "max_epochs=2", launch=TORCHRUN), 0)
    output = finish(start(markov_dataset, tmp_path, "name=ray", "max_epochs=2", "launcher=ray"), 0)
    assert [line[:19] for line in output.splitlines() if line.startswith("epoch ")] == [
        "epoch 1 of at most ",
        "epoch 2 of at most ",
    ]
    assert "2 epochs, " in output
    theirs, ours = (
        torch.load(tmp_path / "runs" / name / BEST_CHECKPOINT, weights_only=True) for name in ("torchrun", "ray")
    )
    assert ours["global_step"] == theirs["global_step"]
    assert ours["BatchDataModule"]["num_ranks"] == 2
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in theirs["state_dict"].items():
        torch.testing.assert_close(ours["state_dict"][name], value, atol=1e-6, rtol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_ctrl_c_saves_and_a_second_command_goes_on(markov_dataset, tmp_path):
    last = tmp_path / "runs" / "run" / LAST_CHECKPOINT
    settings = ("name=run", "launcher=ray", "max_epochs=10000", "patience=10000")
    training = start(markov_dataset, tmp_path, *settings)
    until = time.monotonic() + 200
    while not last.exists() and training.poll() is None and time.monotonic() < until:
        time.sleep(0.2)
    os.killpg(training.pid, signal.SIGINT)  # as a terminal does
    output = finish(training, 130)
    assert "continue with the same command and resume=true" in output
    done = torch.load(last, weights_only=True)
    settings = ("name=run", "launcher=ray", f"max_epochs={done['epoch'] + 2}", "resume=true")
    output = finish(start(markov_dataset, tmp_path, *settings), 0)
    assert f"{done['epoch'] + 2} epochs" in output
    assert torch.load(last, weights_only=True)["global_step"] > done["global_step"]
