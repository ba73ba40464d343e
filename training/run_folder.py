"""The folder of one training run: what lies where, when it may be written, how its model is read again.

Imports of torch wait inside functions, so that a mistake is answered before they take their seconds.
"""

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from roomrec.errors import ConfigurationError, DatasetError
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import fingerprint_of_file
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.fingerprint import dataset_fingerprint
from training.environment import describe_environment
from training.settings import check_name, require_dataset, require_run

if TYPE_CHECKING:
    from torch import nn

LAST_CHECKPOINT: Final = Path("checkpoints/last.ckpt")
"""Where training stands."""

BEST_CHECKPOINT: Final = Path("checkpoints/best.ckpt")
"""The epoch with the best monitored metric."""

RUN_VOCABULARY: Final = Path("vocabulary.parquet")
"""What the rows of the run's tables stand for; the dataset may have been made anew since."""


_KEPT_BY_RESUMING: Final = (
    "batches",
    "negatives",
    "loss",
    "optimizer",
    "trainer.tables.optimizer",
    "trainer.tables.lr",
    "trainer.tables.min_rows",
    "seed",
    "side_features",
    "warmup_steps",
    "average_epochs",
    "validation.monitor",
    "validation.max_queries",
)
"""Settings and sections that, beside the model's, decide what a step does or which epoch is the best."""


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
    shutil.copyfile(dataset.vocabulary_file, folder / RUN_VOCABULARY)
    return described


def check_same_dataset(folder: Path, dataset_folder: Path) -> None:
    """Refuse to go on with a run on another dataset than it began with.

    Args:
        folder: The run's.
        dataset_folder: Of the dataset there is now, wherever it lies.

    Raises:
        DatasetError: If its content is not what the run was trained with.
    """
    began_with = json.loads((folder / "environment.json").read_text())["dataset"]
    if began_with["fingerprint"] != dataset_fingerprint(dataset_folder):
        raise DatasetError(
            f"{folder} was trained with {began_with['folder']} as it was then, and {dataset_folder} holds something "
            "else: preprocess the same log with the same settings again, or train anew under another name"
        )


def check_same_settings(folder: Path, config: DictConfig) -> None:
    """Refuse to go on with a run with other settings than it began with, where they decide about steps or checkpoints.

    Raises:
        ConfigurationError: With the first that is different.
    """
    for key, before, now in different_settings(folder, config, more=_KEPT_BY_RESUMING):
        raise ConfigurationError(
            f"resume=true with {key}={now}, but {folder} began with {before}: a run goes on at the very step only with "
            "the settings it began with; pass those, or train anew under another name"
        )


def different_settings(folder: Path, config: DictConfig, *, more: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    """Return the settings of the model that are not those of another run: key, value there, value here.

    Args:
        folder: Of the other run.
        config: Ours.
        more: Settings and sections to compare besides the model's.
    """
    other = OmegaConf.load(folder / "config.yaml")
    assert isinstance(other, DictConfig)
    there, here = (
        {name: value for key in ("model", *more) for name, value in _flat_settings(each, key).items()}
        for each in (other, config)
    )
    return [
        (key, there.get(key), here.get(key))
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    ]


def find_earlier_run(config: DictConfig, folder: Path) -> Path | None:
    """Return the folder of the run that ``warm_start`` names, None if there is nothing to begin with.

    A run that is resumed has begun already.

    Args:
        config: ``configs/train.yaml``, composed.
        folder: Of the run that begins.

    Raises:
        ConfigurationError: If that run cannot be begun with; the message says why.
    """
    if config.warm_start is None or config.resume:
        return None
    earlier, named = require_run(config, "warm_start"), f"warm_start={config.warm_start}"
    if earlier.resolve() == folder.resolve():
        raise ConfigurationError(
            f"{named} is the run that would be trained: give it another name=..., or go on with resume=true"
        )
    if not (earlier / BEST_CHECKPOINT).exists():
        raise ConfigurationError(
            f"{named}: {earlier} has no {BEST_CHECKPOINT}, so no epoch of it is finished: finish it with resume=true"
        )
    trained_with = json.loads((earlier / "environment.json").read_text())["dataset"]["vocabulary_fingerprint"]
    vocabulary = earlier / RUN_VOCABULARY
    if not vocabulary.exists() or fingerprint_of_file(vocabulary) != trained_with:
        raise ConfigurationError(
            f"{named}: {vocabulary} is not there or not what that run was trained with, so nobody knows whose rows it "
            "has: train it again"
        )
    return earlier


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
        model.load_state_dict(trained_weights(state))
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


def trained_weights(state: dict[str, Any]) -> dict[str, Any]:
    """Return the weights a run is evaluated by, by names in the model: averages if the checkpoint has them."""
    prefix = "averaged." if any(key.startswith("averaged.") for key in state) else "model."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _flat_settings(config: DictConfig, key: str) -> dict[str, Any]:
    """A setting, or all of a section, by dotted key."""
    value = OmegaConf.select(config, key)
    if isinstance(value, DictConfig):
        return {name: found for part in value for name, found in _flat_settings(config, f"{key}.{part}").items()}
    return {key: OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value}
