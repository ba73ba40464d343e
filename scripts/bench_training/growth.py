"""How seconds of an epoch grow with events, items and length: RoomRec alone, on logs made for it."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from scripts.bench_training import comparison, logs, turns
from scripts.bench_training.contenders import CONTENDERS, SIZES, DataSet
from scripts.bench_training.environments import ROOT
from scripts.bench_training.kept import Kept


class Point(NamedTuple):
    """A log to be made and the length at which to train on it."""

    axis: str
    """what grows: ``events``, ``items`` or ``length``"""
    value: int
    """of that"""
    num_events: int
    """in all, about"""
    num_items: int
    """each occurs"""
    events_a_user: int
    """of every user, or 0 for short histories of different lengths, 9 events on average as in Beauty"""
    length: int
    """of a model's history"""


POINTS: Final = (
    *(Point("events", times * 200_000, times * 200_000, 10_000, 0, 50) for times in (1, 4, 16)),
    *(Point("items", items, 1_200_000, items, 0, 50) for items in (10_000, 100_000, 1_000_000)),
    *(Point("length", length, 1_000_000, 10_000, length + 3, length) for length in (50, 200, 1000)),
)
"""The three curves."""


def measure(options: argparse.Namespace, work: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Measure every point that is missing, at each loss.

    Args:
        options: The command line.
        work: Folder of everything kept.
        report: Told what happens.

    Returns:
        By loss and axis the points, each with ``seconds_per_epoch``: of as many targets as the log has, from the rate
        of some segments.
    """
    kept = Kept(work / "measured")
    found: dict[str, Any] = {}
    for loss in options.losses:
        for point in POINTS:
            name = f"growth.{point.axis}-{point.value}.{loss}.{options.threads}.roomrec"
            asked = point._asdict() | {"rounds": options.rounds, "s": options.seconds, "set": options.set}
            measured = kept.get(name, asked=asked)
            if measured is None:
                report(name)
                measured = _measure(point, loss, options, work, report)
                kept.put(name, measured, asked=asked)
            found.setdefault(loss, {}).setdefault(point.axis, []).append(measured)
    return found


def make_log(point: Point, *, seed: int) -> logs.Log:
    """Draw histories in which items have the popularity of a long tail and each occurs at least once."""
    rng = np.random.default_rng(seed)
    if point.events_a_user:
        lengths = np.full(max(point.num_events // point.events_a_user, 1), point.events_a_user)
    else:
        lengths = 4 + rng.geometric(0.2, size=point.num_events // 9)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    total = int(offsets[-1])
    if total < point.num_items:
        raise ValueError(f"{point.num_items} items do not fit into {total} events")
    # log-uniform ranks are a Zipf distribution with exponent 1
    drawn = np.exp(rng.random(total - point.num_items) * np.log(point.num_items)).astype(np.int64)
    items = np.concatenate([np.arange(point.num_items), drawn - 1])
    rng.shuffle(items)
    return logs.Log(np.arange(1, len(lengths) + 1), np.arange(1, point.num_items + 1), offsets, items)


def _measure(
    point: Point, loss: str, options: argparse.Namespace, work: Path, report: Callable[[str], None]
) -> dict[str, Any]:
    folder = work / "growth"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = make_log(point, seed=options.seed)
    logs.save(log, folder / "log.npz")
    with (folder / "log.txt").open("w") as lines:
        ids = log.item_ids[log.items]
        for user, start, stop in zip(log.user_ids, log.offsets[:-1], log.offsets[1:], strict=True):
            lines.write(f"{user} {' '.join(map(str, ids[start:stop]))}\n")
    settings = ["source=s3rec_text", f"source.path={folder / 'log.txt'}", f"output_dir={folder}", "name=processed"]
    subprocess.run(
        [sys.executable, "-m", "training.preprocess", *settings], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    contender = CONTENDERS["roomrec"]
    data = DataSet("growth", "", point.length)
    spec = SIZES | {
        "name": contender.name,
        "side": contender.side,
        "variant": contender.variant,
        "loss": loss,
        "length": point.length,
        "log": str(folder / "log.npz"),
        "dataset": str(folder / "processed"),
        "folder": str(folder),
        "threads": options.threads,
        "seed": options.seed,
        "evaluates": False,
        "queries": 0,
        "state": None,
        "overrides": contender.overrides(data, loss, "speed") + options.set,
    }
    turn = turns.Turn(python=Path(sys.executable), spec=spec, folder=folder)
    try:
        speed = turns.measure_speed([turn], rounds=options.rounds, seconds=options.seconds, report=report)
    finally:
        turn.kill()
    measured = speed[contender.name]
    targets = log.targets_of_pass()
    rates = comparison.rates(
        measured["segments"], rows_are_users=False, targets_a_sequence=1.0, targets_of_pass=targets
    )
    shutil.rmtree(folder)
    return {
        "value": point.value,
        "events": int(log.offsets[-1]),
        "items": point.num_items,
        "length": point.length,
        "seconds_per_epoch": rates["seconds_per_pass"],
        "tokens_per_s": rates["tokens_per_s"],
        "peak_memory_mb": measured["peak_memory_mb"],
    }
