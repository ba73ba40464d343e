"""The folder of one training run: what lies where, when it may be written, how its model is read again.

Imports of torch wait inside functions, so that a mistake is answered before they take their seconds.
"""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from omegaconf import DictConfig, OmegaConf

from roomrec.errors import ConfigurationError, DatasetError
from roomrec.features.spec import FeatureSpec
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.fingerprint import dataset_fingerprint
from training.environment import describe_environment
from training.settings import check_name, require_dataset

if TYPE_CHECKING:
    from torch import nn

LAST_CHECKPOINT: Final = Path("checkpoints/last.ckpt")
"""Where training stands."""

BEST_CHECKPOINT: Final = Path("checkpoints/best.ckpt")
"""The epoch with the best monitored metric."""


class TrainingInterrupted(Exception):  # noqa: N818  not an error: the user asked for it
    """Training stopped because somebody pressed Ctrl-C; everything is saved."""


class TrainedModel(NamedTuple):
    """A model as a run left it, in evaluation mode."""

    model: "nn.Module"
    """has ``user_encoder`` and ``item_encoder``"""
    config: DictConfig
    """the composed config of the run"""
    spec: FeatureSpec
    """cardinalities it was trained with"""
    vocabulary_fingerprint: str
    """of the vocabulary it was trained with"""
    max_sequence_length: int
    """newest events its user encoder was trained to see"""


def leads() -> bool:
    """Whether this process is the first of a distributed job, or the only one: the one that writes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def run_folder(config: DictConfig) -> Path:
    """Return the folder of the run: its name, or ``<model>-<dataset>``.

    Raises:
        ConfigurationError: If the name leads elsewhere.
    """
    model = str(config.model._target_).rpartition(".")[2].lower()
    name = str(config.name or f"{model}-{Path(str(config.dataset)).name}")
    check_name("name", name)
    return Path(config.runs_dir) / name


def check_run_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to lose a run by accident.

    Args:
        folder: The run's folder.
        resume: The run continues, so there must be something to continue.
        overwrite: An earlier run of this name may be deleted.

    Raises:
        ConfigurationError: If a run is there and neither setting allows to touch it, or there is none to resume.
    """
    if resume and overwrite:
        raise ConfigurationError("resume=true continues a run, overwrite=true deletes it: choose one")
    exists = folder.is_dir() and any(folder.iterdir())
    if resume:
        if not (folder / LAST_CHECKPOINT).exists():
            raise ConfigurationError(f"resume=true, but {folder / LAST_CHECKPOINT} does not exist: train without it")
    elif exists and not overwrite:
        inside = ", ".join(sorted(path.name for path in folder.iterdir()))
        begun = (folder / LAST_CHECKPOINT).exists()
        state = "a run already: continue it with resume=true," if begun else "a run that has saved nothing yet:"
        raise ConfigurationError(
            f"{folder} holds {state} choose another name=..., or pass overwrite=true, which deletes {inside}"
        )


def prepare_run_folder(folder: Path, *, resume: bool) -> None:
    """Empty the folder unless the run continues, and make it; ``check_run_folder`` has allowed it."""
    if folder.is_dir() and not resume:
        shutil.rmtree(folder)
    (folder / LAST_CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)


def describe_run(folder: Path, config: DictConfig, dataset: ProcessedDataset) -> dict[str, Any]:
    """Write ``config.yaml`` and ``environment.json``: what was asked for, and what it ran on; return the latter."""
    dataset_folder = require_dataset(config.dataset, Path(config.data_dir))
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    described = {
        "dataset": {
            "folder": str(dataset_folder),
            "fingerprint": dataset_fingerprint(dataset_folder),
            "feature_spec": dataset.spec.to_dict(),
            "vocabulary_fingerprint": dataset.vocabulary_fingerprint,
        },
        **describe_environment(),
    }
    (folder / "environment.json").write_text(json.dumps(described, indent=2) + "\n")
    return described


def check_same_dataset(folder: Path, dataset: ProcessedDataset) -> None:
    """Refuse to continue a run on another dataset than it began with.

    Raises:
        DatasetError: If the vocabulary is another one.
    """
    began_with = json.loads((folder / "environment.json").read_text())["dataset"]
    if began_with["vocabulary_fingerprint"] != dataset.vocabulary_fingerprint:
        raise DatasetError(
            f"{folder} was trained with the vocabulary of {began_with['folder']} as it was then; it has changed, so "
            "the run cannot be continued: train anew under another name"
        )


def check_same_model(folder: Path, config: DictConfig) -> None:
    """Refuse to continue a run with another model than it began with: its weights would not fit.

    Raises:
        ConfigurationError: With what is different.
    """
    began_with = OmegaConf.load(folder / "config.yaml")
    assert isinstance(began_with, DictConfig)
    before, now = (_flat_settings(OmegaConf.to_container(each.model, resolve=True)) for each in (began_with, config))
    before["average_decay"], now["average_decay"] = began_with.get("average_decay"), config.average_decay
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise ConfigurationError(
                f"resume=true with {key}={now.get(key)}, but {folder} began with {before.get(key)}: its weights belong "
                f"to that model; continue with the settings it began with, or train anew under another name"
            )


def spec_of_run(folder: Path) -> FeatureSpec:
    """Return the cardinalities a run was trained with."""
    return FeatureSpec.from_dict(json.loads((folder / "environment.json").read_text())["dataset"]["feature_spec"])


def load_trained_model(folder: Path, *, checkpoint: Path = BEST_CHECKPOINT) -> TrainedModel:
    """Read the model of a run.

    Args:
        folder: The run's folder.
        checkpoint: Which one, relative to the folder.

    Returns:
        The model on the CPU, in evaluation mode.

    Raises:
        ConfigurationError: If the folder holds no such checkpoint, or one that does not fit the code.
    """
    import torch
    from hydra.utils import instantiate

    if not (folder / checkpoint).exists():
        raise ConfigurationError(f"{folder / checkpoint} does not exist: train first with `python -m training.train`")
    config = OmegaConf.load(folder / "config.yaml")
    assert isinstance(config, DictConfig)
    dataset: dict[str, Any] = json.loads((folder / "environment.json").read_text())["dataset"]
    spec = spec_of_run(folder)
    model = instantiate(config.model, _partial_=True)(spec=spec)
    state = torch.load(folder / checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    try:
        prefix = "averaged." if any(key.startswith("averaged.") for key in state) else "model."
        model.load_state_dict(
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        )
    except RuntimeError as error:
        raise ConfigurationError(
            f"{folder / checkpoint} holds other weights than this code's {type(model).__name__} has: it was trained "
            "with another version of the code, train again"
        ) from error
    return TrainedModel(
        model=model.eval(),
        config=config,
        spec=spec,
        vocabulary_fingerprint=dataset["vocabulary_fingerprint"],
        max_sequence_length=int(config.batches.max_sequence_length),
    )


def _flat_settings(section: Any, prefix: str = "model") -> dict[str, Any]:
    """Settings of a section by dotted key."""
    if not isinstance(section, dict):
        return {prefix: section}
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= _flat_settings(value, f"{prefix}.{key}")
    return found
