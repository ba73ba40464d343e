"""Training runs of the table: one an experiment and seed, reused when nothing that matters has changed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from roomrec.sequences.fingerprint import dataset_fingerprint
from scripts.bench_quality.fingerprints import ROOT, TRAINING_CODE, code_fingerprint, composed, fingerprint
from training.run_folder import BEST_CHECKPOINT, LAST_CHECKPOINT

_SECONDS_BETWEEN_LOOKS: Final = 0.5


class Asked(NamedTuple):
    """A run that the table asks for."""

    experiment: str
    seed: int
    settings: list[str]
    """for ``python -m training.train``"""
    dataset: str
    """name of the processed dataset"""
    wanted: str
    """fingerprint of config and data"""
    code: str
    """fingerprint of the training code"""

    @property
    def name(self) -> str:
        """Of the run's folder."""
        return f"{self.experiment}-seed{self.seed}"


class Failed(Exception):  # noqa: N818  the message is for people
    """A job ended badly; the message says which and where its output is."""


def ask(experiment: str, *, seed: int, work: Path, more: list[str]) -> Asked:
    """Describe a run.

    Args:
        experiment: Of ``configs/experiment``.
        seed: Of the run.
        work: Where datasets and runs lie.
        more: Settings besides, e.g. ``["max_epochs=1"]`` for a smoke test.
    """
    settings = [f"experiment={experiment}", f"seed={seed}", f"data_dir={work}", *more]
    config = composed("train", settings)
    dataset = str(config["dataset"])
    data = dataset_fingerprint(work / "processed" / dataset)
    return Asked(experiment, seed, settings, dataset, fingerprint(config, data), code_fingerprint(TRAINING_CODE))


def state_of(asked: Asked, *, work: Path, any_code: bool) -> str:
    """Say what is to be done: ``reuse``, ``resume`` or ``train``.

    A finished run is reused if config, data and training code are the same, with ``any_code`` also if the code is
    another; an interrupted one is continued if nothing has changed.
    """
    folder, kept = work / "runs" / asked.name, _read(work / "runs" / f"{asked.name}.json")
    if kept.get("wanted") != asked.wanted or not (kept.get("code") == asked.code or any_code):
        return "train"
    if kept.get("finished") and (folder / BEST_CHECKPOINT).exists():
        return "reuse"
    return "resume" if kept.get("code") == asked.code and (folder / LAST_CHECKPOINT).exists() else "train"


def train(asked: Asked, *, work: Path, resume: bool, tell: Callable[[str], None]) -> None:
    """Train a run in a process of its own.

    Args:
        asked: The run.
        work: Where datasets and runs lie.
        resume: Whether to go on with an interrupted one.
        tell: Told the last line the process wrote, now and then.

    Raises:
        Failed: If the process ended badly.
        KeyboardInterrupt: After Ctrl-C, when the process has saved where it stands.
    """
    note = work / "runs" / f"{asked.name}.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    before = _read(note).get("seconds", 0.0) if resume else 0.0
    kept: dict[str, Any] = {"wanted": asked.wanted, "code": asked.code, "finished": False, "seconds": before}
    note.write_text(json.dumps(kept))
    began = time.monotonic()
    settings = [*asked.settings, f"name={asked.name}", "resume=true" if resume else "overwrite=true"]
    try:
        run_job("train", settings, log=work / "logs" / f"{asked.name}.txt", tell=tell)
        kept["finished"] = True
    finally:
        kept["seconds"] = round(before + time.monotonic() - began, 1)
        note.write_text(json.dumps(kept))


def seconds_of(asked: Asked, *, work: Path) -> float:
    """Return how long a finished run took."""
    return float(_read(work / "runs" / f"{asked.name}.json").get("seconds", 0.0))


def run_job(job: str, settings: list[str], *, log: Path, tell: Callable[[str], None]) -> None:
    """Run ``python -m training.<job>``, its output in a file.

    Raises:
        Failed: If it ended badly.
        KeyboardInterrupt: After Ctrl-C, when the job has ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"training.{job}", *settings]
    with log.open("wb") as output:
        # A session of its own, so that Ctrl-C reaches the job once, from here.
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"COLUMNS": "160"},
        )
        try:
            while child.poll() is None:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                tell(last_line(log))
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
    if child.returncode:
        raise Failed(f"{' '.join(command[1:])} ended with {child.returncode}: {last_line(log)} (see {log})")


def last_line(log: Path) -> str:
    """Return the last line of a file that says anything."""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 2048, 0))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _read(note: Path) -> dict[str, Any]:
    return json.loads(note.read_text()) if note.exists() else {}
