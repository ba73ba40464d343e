"""The folder of a sweep: ``config.yaml``, ``study.db``, a run for each trial, a log for each process."""

import json
import shutil
from pathlib import Path

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf

from roomrec.errors import ConfigurationError, DatasetError
from roomrec.sequences.fingerprint import dataset_fingerprint
from training.configuration import folders_in
from training.environment import code_revision
from training.run_folder import run_folder
from training.settings import folder_of, require_dataset


def sweep_folder(config: DictConfig) -> Path:
    """Return the folder of a sweep: below ``data_dir/sweeps``, named like a run.

    Raises:
        ConfigurationError: If the name leads elsewhere.
    """
    return Path(config.data_dir) / "sweeps" / run_folder(config).name


def require_sweep(config: DictConfig) -> Path:
    """Return the folder of the sweep that a config names: itself, or a name below ``data_dir/sweeps``.

    Raises:
        ConfigurationError: If there is no such sweep; the message says which there are.
    """
    root = Path(config.data_dir) / "sweeps"
    folder = folder_of(config.sweep, root)
    if folder is None or not (folder / "study.db").exists():
        raise ConfigurationError(f"sweep={config.sweep}: there is no such sweep; {folders_in(root)}")
    return folder


def begin_or_continue(config: DictConfig, folder: Path) -> None:
    """Make the folder, or see that what is there is this sweep, and write down what was asked for.

    Raises:
        ConfigurationError: If a sweep is there that may not be touched or that searched something else.
        DatasetError: If the dataset is not the one that earlier trials were trained on.
    """
    if config.resume and config.overwrite:
        raise ConfigurationError("resume=true continues a sweep, overwrite=true deletes it: choose one")
    exists = (folder / "study.db").exists()
    if config.resume and not exists:
        raise ConfigurationError(f"resume=true, but there is no sweep in {folder}: start it without")
    if not config.resume and folder.is_dir() and any(folder.iterdir()):
        if not config.overwrite:
            raise ConfigurationError(
                f"{folder} exists: go on with resume=true, choose another name=..., or pass overwrite=true, which "
                "deletes it and the runs of its trials"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "study.lock"):
        if config.resume:
            _check_same(config, folder)
        OmegaConf.save(config, folder / "config.yaml")
        if not (folder / "sweep.json").exists():
            described = {"dataset_fingerprint": _fingerprint(config), "code_revision": code_revision()}
            (folder / "sweep.json").write_text(json.dumps(described, indent=2) + "\n")


def _check_same(config: DictConfig, folder: Path) -> None:
    began = OmegaConf.load(folder / "config.yaml")
    for name, before, now in (
        ("space", began.space, config.space),
        ("settings", began.sweep.settings, config.sweep.settings),
    ):
        if before != now:
            raise ConfigurationError(
                f"{folder} was begun with {name} {before}, received {now}: trials would not compare, choose another "
                "name=..."
            )
    if json.loads((folder / "sweep.json").read_text())["dataset_fingerprint"] != _fingerprint(config):
        raise DatasetError(
            f"the dataset has changed since {folder} began: trials would not compare, choose another name=..."
        )


def _fingerprint(config: DictConfig) -> str:
    return dataset_fingerprint(require_dataset(config.dataset, Path(config.data_dir)))
