"""Exports a trained run to the registry: ``python -m training.export run=sasrec-beauty``."""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from roomrec.bundle.channels import CHANNELS
from roomrec.bundle.registry import Registry
from roomrec.errors import ConfigurationError
from training.configuration import check_command_line, check_missing, one_sentence_errors
from training.settings import require_run

PROMOTIONS: Final = (*CHANNELS, "none", "auto")
"""What ``promote`` may be."""


class ExportResult(NamedTuple):
    """What an export came to."""

    version: str
    """the version's name in the registry"""
    folder: Path
    """where it lies"""
    channel: str | None
    """the channel that points to it now"""
    summary: dict[str, Any]
    """the above and what was measured"""


def run(config: DictConfig) -> ExportResult:
    """Export as configured.

    Args:
        config: ``configs/export.yaml``, composed.

    Returns:
        The published version.

    Raises:
        ConfigurationError: If there is no such run, or ``promote`` makes no sense.
        DatasetError: If the dataset is missing, unfinished, or another than the run was trained on.
        ExportError: If an encoder cannot be traced, or ONNX and torch differ by more than the tolerance.
        RegistryError: If the registry cannot be written.
    """
    check_missing(config)
    if config.promote not in PROMOTIONS:
        raise ConfigurationError(f"promote is {config.promote!r}: choose one of {', '.join(PROMOTIONS)}")
    run_folder = require_run(config)
    from roomrec.export import write_bundle
    from training.evaluation.trained_run import open_run

    began = time.monotonic()
    trained = open_run(run_folder, data_dir=Path(config.data_dir), dataset=config.dataset)
    registry = Registry(Path(config.registry))
    with tempfile.TemporaryDirectory(prefix="roomrec-export-") as scratch:
        manifest = write_bundle(
            Path(scratch) / "bundle",
            model_kind=str(trained.config.model._target_).split(".")[-2],
            user_encoder=trained.model.user_encoder,
            item_encoder=trained.model.item_encoder,
            dataset=trained.dataset,
            max_sequence_length=trained.max_sequence_length,
            training_config=OmegaConf.to_container(trained.config),
            metrics=measured(Path(config.data_dir) / "reports" / trained.folder.name / "metrics.json"),
            code_revision=trained.code_revision,
            tolerance=config.tolerance,
        )
        version = registry.publish(Path(scratch) / "bundle")
    channel = choose_channel(config.promote, registry)
    if channel is not None:
        registry.promote(version, channel)
    summary = {
        "run": trained.folder.name,
        "version": version,
        "folder": str(registry.path(version)),
        "channel": channel,
        "champion": registry.channel("champion"),
        "challenger": registry.channel("challenger"),
        "parity_max_abs_diff": manifest.metrics["parity_max_abs_diff"],
        "embedding_dim": manifest.embedding_dim,
        "max_sequence_length": manifest.max_sequence_length,
        "bytes": sum(file.stat().st_size for file in registry.path(version).iterdir()),
        "seconds": round(time.monotonic() - began, 1),
    }
    return ExportResult(version, registry.path(version), channel, summary)


def choose_channel(promote: str, registry: Registry) -> str | None:
    """Return the channel a new version goes to: what was asked for, or champion if there is none, else challenger."""
    if promote == "none":
        return None
    if promote == "auto":
        return "challenger" if registry.channel("champion") else "champion"
    return promote


def measured(report: Path) -> dict[str, Any]:
    """Return the headline numbers of the run's evaluation, empty if it was not evaluated."""
    return dict(json.loads(report.read_text(encoding="utf-8"))["summary"]) if report.is_file() else {}


@hydra.main(version_base="1.3", config_path="../configs", config_name="export")
def main(config: DictConfig) -> None:
    """Export, say where it went, and end with one line of JSON."""
    with one_sentence_errors():
        result = run(config)
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"{result.version} in {result.folder}, channel {result.channel or 'none'}; torch and ONNX differ by at most "
        f"{result.summary['parity_max_abs_diff']:.1e}"
    )
    sys.stdout.write(json.dumps(result.summary) + "\n")


if __name__ == "__main__":
    check_command_line("export")
    main()
