"""Simulate a live-commerce platform and write its event log, and beside it the truth."""

import json
import os
import shutil
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hydra
import pyarrow.compute as pc
import pyarrow.parquet as pq
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from roomrec.errors import ConfigurationError
from roomrec.events.parquet import write_events
from roomrec.simulator.world import World
from training.configuration import check_command_line, check_missing, one_sentence_errors
from training.settings import mistakes_in


def run(cfg: DictConfig) -> dict[str, Any]:
    """Write a simulated log.

    Args:
        cfg: As ``configs/simulate.yaml``.

    Returns:
        Counts by type, seconds, events per second and where everything is.

    Raises:
        ConfigurationError: If there is a log already and ``overwrite`` is not set, if what ``overwrite`` would delete
            holds anything else, or if the world's settings are impossible.
    """
    check_missing(cfg)
    output, truth = Path(cfg.output_dir), Path(cfg.truth_dir)
    if output.absolute() == truth.absolute():
        raise ConfigurationError(f"output_dir and truth_dir are both {output}: the truth must lie apart from the log")
    console = Console(stderr=True)
    for folder in (output, truth):
        if folder.exists() and not cfg.overwrite:
            raise ConfigurationError(f"{folder} exists: overwrite=true would delete it; or choose another name=...")
        if folder.exists():
            _refuse_to_delete_anything_else(folder)
            console.print(f"Deleting {folder} when the new log is complete (overwrite=true)")
    started = time.perf_counter()
    with mistakes_in("world"):
        world = World(hydra.utils.instantiate(cfg.world))
    counts = _write_log(world, _unfinished(output), console)
    seconds = time.perf_counter() - started
    _write_truth(world, _unfinished(truth))
    for folder in (output, truth):
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(_unfinished(folder), folder)
    num_events = sum(counts.values())
    return {
        "events": num_events,
        "events_by_type": dict(counts.most_common()),
        "days": world.config.num_days,
        "seconds": round(seconds, 2),
        "events_per_second": round(num_events / seconds),
        "events_dir": str(output),
        "truth_dir": str(truth),
    }


def _refuse_to_delete_anything_else(folder: Path) -> None:
    written = {"world.json", "streamers.parquet", "products.parquet", "rooms.parquet", "viewers.parquet"}
    for path in sorted(folder.iterdir()):
        if not (path.name in written or (path.is_dir() and path.name.startswith("day="))):
            raise ConfigurationError(f"{folder} holds {path.name}, which no simulation wrote: it is not deleted")


def _unfinished(folder: Path) -> Path:
    """Where a folder is written until it is complete: nothing looks finished that is not."""
    return folder.with_name(f".{folder.name}.unfinished")


def _write_log(world: World, folder: Path, console: Console) -> Counter[str]:
    shutil.rmtree(folder, ignore_errors=True)
    counts: Counter[str] = Counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("simulating days", total=world.config.num_days)
        for part, table in enumerate(world.days()):
            write_events(table, folder, part=f"{part:05d}")
            for entry in pc.value_counts(table["event_type"]).to_pylist():
                counts[entry["values"]] += entry["counts"]
            day_ms = table["occurred_at_ms"][0].as_py() - world.config.start_at_ms
            progress.update(task, completed=day_ms // 86_400_000 + 1)
    return counts


def _write_truth(world: World, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "world.json").write_text(json.dumps(asdict(world.config), indent=2) + "\n")
    pq.write_table(world.streamer_truth(), folder / "streamers.parquet")
    pq.write_table(world.product_truth(), folder / "products.parquet")
    for name, of_day in (("rooms", world.room_truth), ("viewers", world.viewer_truth)):
        with pq.ParquetWriter(folder / f"{name}.parquet", of_day(0).schema) as writer:
            for day in range(world.config.num_days):
                writer.write_table(of_day(day))


@hydra.main(version_base="1.3", config_path="../configs", config_name="simulate")
def main(cfg: DictConfig) -> None:
    """Run the job and end with one line of JSON."""
    with one_sentence_errors():
        summary = run(cfg)
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    check_command_line("simulate")
    main()
