"""Plain Hydra multirun: a run for each value, none in the folder of another."""

import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

from training.configuration import CONFIGS


def multirun(dataset: Path, data_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    settings = [f"dataset={dataset}", f"data_dir={data_dir}", "trainer=cpu", "model.embedding_dim=8", "max_epochs=1"]
    return subprocess.run(
        [sys.executable, "-m", "training.train", "-m", *settings, *words],
        cwd=CONFIGS.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_run_of_a_multirun_has_a_folder_of_its_own(markov_dataset, tmp_path):
    done = multirun(markov_dataset, tmp_path, "model.dropout_rate=0.2,0.5", "seed=choice(1)")
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "runs"
    expected = {"sasrec-dataset-dropout_rate-0.2-seed-1": 0.2, "sasrec-dataset-dropout_rate-0.5-seed-1": 0.5}
    assert sorted(path.name for path in runs.iterdir()) == sorted(expected)
    for name, rate in expected.items():
        assert OmegaConf.load(runs / name / "config.yaml").model.dropout_rate == rate
        assert (runs / name / "checkpoints" / "best.ckpt").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "sweeps"}


def test_what_is_missing_is_asked_for_in_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training.train", "-m", f"data_dir={tmp_path}", "seed=1,2"],
        cwd=CONFIGS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ConfigurationError: dataset is not set: choose one with dataset=...")
