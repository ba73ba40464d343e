"""Behaviour logs to a processed dataset: ``python -m training.preprocess source=<name> source.path=<path>``."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import HOW_TO_FILL_A_SPLIT
from roomrec.sequences.history import HISTORY_EVENT_TYPES
from training.configuration import INTERRUPTED_EXIT_CODE, check_command_line, check_missing, one_sentence_errors
from training.preprocessing.erased import choose_list, describe_list, read_list
from training.preprocessing.folder import unfinished_folder
from training.preprocessing.histories import Labels
from training.preprocessing.pipeline import VOCABULARY_FROM, write_dataset
from training.preprocessing.shuffle import Shuffle
from training.settings import check_name, check_whole_number, mistakes_in

_LOG = logging.getLogger(__name__)


def run(cfg: DictConfig) -> dict[str, Any]:
    """Preprocess one log into ``<output_dir>/<name>``.

    Args:
        cfg: ``configs/preprocess.yaml``, composed.

    Returns:
        What ``summary.json`` holds.

    Raises:
        RoomRecError: If the log cannot be read, holds nothing, or a setting is wrong.
    """
    check_settings(cfg)
    with mistakes_in("source"):
        source = hydra.utils.instantiate(cfg.source)
    with mistakes_in("splitting"):
        splitting = hydra.utils.instantiate(cfg.splitting)
    shuffle = Shuffle(**cfg.shuffle)
    erased_list = choose_list(cfg.erased_users, source)
    erased = read_list(erased_list)
    name = str(cfg.name or source.name)
    check_name("name", name)
    with unfinished_folder(Path(cfg.output_dir) / name, overwrite=cfg.overwrite) as folder, _progress() as progress:
        written = write_dataset(
            source,
            splitting,
            shuffle,
            erased=erased,
            folder=folder,
            work=folder / "work",
            labels=Labels(**cfg.labels),
            event_types=cfg.histories.event_types,
            features=cfg.features,
            vocabulary_from=cfg.vocabulary["from"],
            min_count=cfg.vocabulary.min_count,
            events_per_partition=cfg.events_per_partition,
            check_leakage=cfg.check_leakage,
            report=lambda step: _advance(progress, step),
        )
        summary = {
            "name": name,
            "source": OmegaConf.to_container(cfg.source),
            "label_windows": OmegaConf.to_container(cfg.labels),
            "erased_users": describe_list(erased_list, erased),
            "history_event_types": OmegaConf.to_container(cfg.histories)["event_types"],
            **written,
        }
        shutil.rmtree(folder / "work")
        for split in (name for name, counts in summary["splits"].items() if not counts.get("targets")):
            kind = summary["split"]["kind"]
            _LOG.warning("the %s split holds no target event: %s", split, HOW_TO_FILL_A_SPLIT[kind])
        text = json.dumps(summary, indent=2, ensure_ascii=False, sort_keys=True)
        (folder / "summary.json").write_text(text + "\n")
    return summary


def check_settings(cfg: DictConfig) -> None:
    """Refuse settings that make no sense.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    check_missing(cfg)
    if cfg.vocabulary["from"] not in VOCABULARY_FROM:
        raise ConfigurationError(f"vocabulary.from is {cfg.vocabulary['from']!r}: expected train, all or null")
    for key in (
        "vocabulary.min_count",
        "features.max_products",
        "features.title_length",
        "features.max_attributes",
        "events_per_partition",
        "shuffle.files_at_once",
    ):
        check_whole_number(cfg, key, at_least=1)
    for key in ("labels.min_watch_time_ms", "labels.enter_window_ms"):
        check_whole_number(cfg, key, at_least=0)
    for key, names in (
        ("labels.target_types", cfg.labels.target_types),
        ("histories.event_types", cfg.histories.event_types or []),
    ):
        if unknown := [name for name in names if name not in HISTORY_EVENT_TYPES]:
            raise ConfigurationError(
                f"{key} holds {', '.join(map(str, unknown))}: choose of {', '.join(HISTORY_EVENT_TYPES)}"
            )


def _progress() -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def _advance(progress: Progress, step: str) -> Any:
    """Start showing a step, the one before it being done."""
    if progress.task_ids:
        progress.stop_task(progress.task_ids[-1])
    number = progress.add_task(step, total=None)
    return lambda count: progress.update(number, advance=count)


@hydra.main(version_base="1.3", config_path="../configs", config_name="preprocess")
def main(cfg: DictConfig) -> None:
    """Run the job and print the summary."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(show_path=False)])
    with one_sentence_errors():
        try:
            summary = run(cfg)
        except KeyboardInterrupt:
            Console(stderr=True).print("stopped; nothing was left behind")
            raise SystemExit(INTERRUPTED_EXIT_CODE) from None
    Console().print_json(json.dumps(summary))


if __name__ == "__main__":
    check_command_line("preprocess")
    main()
