"""What jobs leave, for tests of what comes after: a small log preprocessed, run folders without training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from roomrec.sequences.dataset import ProcessedDataset
from training import preprocess
from training.configuration import CONFIGS
from training.run_folder import BEST_CHECKPOINT, describe_run

SMALL_SASREC = {
    "model": "sasrec",
    "model.embedding_dim": 16,
    "model.block.hidden_dim": 16,
    "model.num_blocks": 1,
    "model.max_sequence_length": 12,
}


def config_of(job: str, **settings: object) -> DictConfig:
    """Compose a job's real config, changed as on the command line."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(job, overrides=[f"{name}={value}" for name, value in settings.items()])


def write_run(data_dir: Path, name: str, dataset: Path, **model: object) -> Path:
    """Write a run whose model has just been initialised."""
    settings = dict(model) or SMALL_SASREC
    config = config_of("train", dataset=dataset, data_dir=data_dir, name=name, **settings)
    opened = ProcessedDataset.open(dataset)
    folder = data_dir / "runs" / name
    (folder / BEST_CHECKPOINT).parent.mkdir(parents=True)
    torch.manual_seed(1)
    state = instantiate(config.model, _partial_=True)(spec=opened.spec).state_dict()
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, folder / BEST_CHECKPOINT)
    describe_run(folder, config, opened)
    return folder


def preprocess_events(
    folder: Path, events: Sequence[dict[str, Any]], *, validation_from: str, test_from: str
) -> ProcessedDataset:
    """Write events as NDJSON and preprocess them into ``folder / "out"``, split at two dates."""
    log = folder / "log.ndjson"
    log.write_text("\n".join(json.dumps(event) for event in events))
    splitting = {"splitting.validation_from": validation_from, "splitting.test_from": test_from}
    preprocess.run(config_of("preprocess", output_dir=folder, name="out", **{"source.path": log}, **splitting))
    return ProcessedDataset.open(folder / "out")
