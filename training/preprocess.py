"""Behaviour logs to a processed dataset: ``python -m training.preprocess source=native source.path=data/events/demo``."""

import json
import logging
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import hydra
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from roomrec.errors import ConfigurationError, RoomRecError
from roomrec.events.schema import ROOM_EVENT_TYPES
from training.preprocessing import catalogue
from training.preprocessing.duplicates import drop_duplicates
from training.preprocessing.folder import unfinished_folder
from training.preprocessing.histories import HistoryBuilder, Labels, write_histories
from training.preprocessing.shuffle import Shuffle
from training.preprocessing.staging import stage


def run(cfg: DictConfig) -> dict[str, Any]:
    """Preprocess one log into ``<output_dir>/<name>``.

    Args:
        cfg: ``configs/preprocess.yaml``, composed.

    Returns:
        What ``summary.json`` holds.

    Raises:
        RoomRecError: If the log cannot be read, holds nothing, or a setting is wrong.
    """
    if OmegaConf.is_missing(cfg.source, "path"):
        raise ConfigurationError(f"source.path is not set: expected {cfg.source.help}")
    if cfg.vocabulary["from"] not in (None, "train", "all"):
        raise ConfigurationError(f"vocabulary.from is {cfg.vocabulary['from']!r}: expected train, all or null")
    settings = {key: value for key, value in cfg.source.items() if key != "help"}
    source = hydra.utils.instantiate(settings)
    target = Path(cfg.output_dir) / (cfg.name or source.name)
    shuffle = Shuffle(**cfg.shuffle)
    with unfinished_folder(target, overwrite=cfg.overwrite) as folder, _progress() as progress:
        summary = _write(cfg, source, shuffle, folder, progress)
        shutil.rmtree(folder / "work")
        text = json.dumps(summary, indent=2, ensure_ascii=False, sort_keys=True)
        (folder / "summary.json").write_text(text + "\n")
    return summary


def _write(cfg: DictConfig, source: Any, shuffle: Shuffle, folder: Path, progress: Progress) -> dict[str, Any]:
    work = folder / "work"
    splitting = hydra.utils.instantiate(cfg.splitting)

    def task(description: str) -> Any:
        number = progress.add_task(description, total=None)
        return lambda count: progress.update(number, advance=count)

    staged = stage(source, work=work / "staged", rejected=folder / "rejected", advance=task("read and validate"))
    num_partitions = math.ceil(staged.num_accepted / cfg.events_per_partition)
    task("drop duplicates")
    num_duplicates = drop_duplicates(staged, shuffle, work=work / "ids", num_partitions=num_partitions)
    boundaries = splitting.boundaries(staged.first_ms, staged.last_ms)
    only_train = (cfg.vocabulary["from"] or splitting.vocabulary_from) == "train"
    if only_train and splitting.kind == "leave_one_out":
        raise ConfigurationError("vocabulary.from=train needs splitting=by_time or given, received leave_one_out")

    task("gather rooms and products")
    rooms = catalogue.read_rooms(staged.files, shuffle)
    listings = catalogue.read_listings(
        staged.files,
        shuffle,
        rooms,
        work=work / "catalogue",
        num_partitions=num_partitions,
        products=source.products(),
    )
    vocabulary = catalogue.make_vocabulary(
        staged.files,
        shuffle,
        rooms,
        listings,
        before_ms=boundaries.get("validation_from_ms") if only_train else None,
        held_out=not only_train,
        min_count=cfg.vocabulary.min_count,
    )
    spec = catalogue.make_spec(vocabulary, rooms, listings, **cfg.features)
    product_ids = shuffle.count(staged.files, "product_id", before_ms=None)["id"].to_pylist()
    items = catalogue.make_items(product_ids, rooms, listings, vocabulary=vocabulary, spec=spec)
    knows_availability = any(staged.event_types[name] for name in ROOM_EVENT_TYPES)
    availability = (
        catalogue.make_availability(rooms, listings, items)
        if knows_availability
        else catalogue.AVAILABILITY_SCHEMA.empty_table()
    )
    _write_table(vocabulary.to_table(), folder / "vocabulary.parquet")
    _write_table(items.table, folder / "items.parquet")
    _write_table(availability, folder / "availability.parquet")

    written = write_histories(
        staged.files,
        shuffle,
        HistoryBuilder(
            vocabulary=vocabulary,
            items=items,
            rooms=rooms,
            labels=Labels(**cfg.labels),
            splitting=splitting,
            boundaries=boundaries,
            ordered=source.ordered,
        ),
        work=work / "users",
        folder=folder / "sequences",
        num_partitions=num_partitions,
        advance=task("write histories"),
    )
    return {
        "name": cfg.name or source.name,
        "source": OmegaConf.to_container(cfg.source),
        "events": {
            "read": staged.num_read,
            "accepted": staged.num_accepted,
            "rejected": sum(staged.rejected.values()),
            "rejected_by_reason": dict(staged.rejected),
            "duplicates": num_duplicates,
            "by_type": dict(staged.event_types),
            "first_at_ms": staged.first_ms,
            "last_at_ms": staged.last_ms,
            "in_sequences": written.num_events,
        },
        "users": vocabulary.size("user") - 2,
        "streamers": vocabulary.size("streamer") - 2,
        "products": len(items.product),
        "products_unknown_to_vocabulary": len(items.product) - (vocabulary.size("product") - 2),
        "rooms": len(rooms.ids),
        "rooms_without_end": rooms.num_without_end if knows_availability else None,
        "items": len(items.table),
        "availability_intervals": len(availability),
        "sequences": written.num_sequences,
        "splits": {name: dict(counts) for name, counts in written.splits.items()},
        "feature_spec": spec.to_dict(),
        "vocabulary_fingerprint": vocabulary.fingerprint(),
        "vocabulary_from": "train" if only_train else "all",
        "ordered": source.ordered,
        "filter_seen": source.filter_seen,
        "knows_availability": knows_availability,
        "split": {"kind": splitting.kind, "boundaries": boundaries},
        "label_windows": OmegaConf.to_container(cfg.labels),
    }


def _write_table(table: pa.Table, file: Path) -> None:
    pq.write_table(table, file, compression="zstd")


def _progress() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


@hydra.main(version_base="1.3", config_path="../configs", config_name="preprocess")
def main(cfg: DictConfig) -> None:
    """Run the job from the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(show_path=False)])
    try:
        summary = run(cfg)
    except RoomRecError as error:
        logging.getLogger(__name__).error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.getLogger(__name__).warning("stopped; nothing was left behind")
        sys.exit(130)
    Console().print_json(json.dumps(summary))


if __name__ == "__main__":
    main()
