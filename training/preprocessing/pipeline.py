"""The steps one after another: a source in, a processed dataset and its summary out."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import ConfigurationError
from roomrec.events.schema import ROOM_EVENT_TYPES
from roomrec.events.sources.source import Source
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX
from roomrec.sequences.splitting import Splitting
from training.preprocessing.duplicates import drop_duplicates
from training.preprocessing.histories import HistoryBuilder, Labels, write_histories
from training.preprocessing.items import AVAILABILITY_SCHEMA, Items, make_availability, make_items
from training.preprocessing.listings import read_listings
from training.preprocessing.rooms import Rooms, read_rooms
from training.preprocessing.shuffle import Shuffle
from training.preprocessing.staging import Staged, stage
from training.preprocessing.vocabulary import make_spec, make_vocabulary

VOCABULARY_FROM: Final = (None, "train", "all")
"""Values of ``vocabulary.from``; None takes what the splitting needs."""

Report = Callable[[str], Callable[[int], None]]
"""Told the name of a step, returns what is told the number of events done."""


def write_dataset(
    source: Source,
    splitting: Splitting,
    shuffle: Shuffle,
    *,
    folder: Path,
    work: Path,
    labels: Labels,
    features: Mapping[str, int],
    vocabulary_from: str | None,
    min_count: int,
    events_per_partition: int,
    report: Report,
) -> dict[str, Any]:
    """Write everything but ``summary.json``.

    Args:
        source: The log.
        splitting: How to split.
        shuffle: Does the shuffling and counting.
        folder: Where the dataset goes.
        work: Folder for intermediate files.
        labels: What counts as a positive.
        features: Lengths of the bags, as ``make_spec`` takes them.
        vocabulary_from: One of ``VOCABULARY_FROM``.
        min_count: Rarer ids stay unknown.
        events_per_partition: What fits in memory at once.
        report: Shows progress.

    Returns:
        What ``summary.json`` shall say of it.

    Raises:
        ConfigurationError: If the settings contradict each other.
        EventError: If the log cannot be read.
        DatasetError: If it holds no valid event.
    """
    only_train = (vocabulary_from or splitting.vocabulary_from) == "train"
    if only_train and splitting.kind == "leave_one_out":
        raise ConfigurationError("vocabulary.from=train needs splitting=by_time or given, received leave_one_out")
    staged = stage(source, work=work / "staged", rejected=folder / "rejected", advance=report("read and validate"))
    _check_split(source, splitting, staged)
    boundaries = splitting.boundaries(staged.first_ms or 0, staged.last_ms or 0)
    num_partitions = math.ceil(staged.num_accepted / events_per_partition)
    report("drop duplicates")
    num_duplicates = drop_duplicates(staged, shuffle, work=work / "ids", num_partitions=num_partitions)

    report("gather rooms and products")
    rooms = read_rooms(staged.files, shuffle)
    listings = read_listings(
        staged.files,
        shuffle,
        rooms,
        work=work / "listings",
        num_partitions=num_partitions,
        products=source.products(),
    )
    vocabulary = make_vocabulary(
        staged.files,
        shuffle,
        rooms,
        listings,
        before_ms=boundaries.get("validation_from_ms") if only_train else None,
        held_out=not only_train,
        min_count=min_count,
    )
    spec = make_spec(vocabulary, rooms, listings, **features)
    product_ids = shuffle.count(staged.files, "product_id", before_ms=None)["id"].to_pylist()
    items = make_items(product_ids, rooms, listings, vocabulary=vocabulary, spec=spec)
    knows_availability = any(staged.event_types[name] for name in ROOM_EVENT_TYPES)
    availability = AVAILABILITY_SCHEMA.empty_table()
    if knows_availability:
        availability = make_availability(rooms, listings, items)
    for table, name in ((vocabulary.to_table(), "vocabulary"), (items.table, "items"), (availability, "availability")):
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")

    builder = HistoryBuilder(
        vocabulary=vocabulary,
        items=items,
        rooms=rooms,
        labels=labels,
        splitting=splitting,
        boundaries=boundaries,
        ordered=source.ordered,
        filter_seen=source.filter_seen,
    )
    written = write_histories(
        staged.files,
        shuffle,
        builder,
        work=work / "users",
        folder=folder / "sequences",
        num_partitions=num_partitions,
        advance=report("write histories"),
    )
    return {
        "events": _event_counts(staged, num_duplicates=num_duplicates, in_sequences=written.num_events),
        "source_notes": source.notes(),
        **_item_counts(vocabulary, items, rooms, availability, knows_availability=knows_availability),
        "sequences": written.num_sequences,
        "splits": {name: dict(counts) for name, counts in written.splits.items()},
        "feature_spec": spec.to_dict(),
        "vocabulary_fingerprint": vocabulary.fingerprint(),
        "vocabulary_from": "train" if only_train else "all",
        "ordered": source.ordered,
        "filter_seen": source.filter_seen,
        "knows_availability": knows_availability,
        "split": {"kind": splitting.kind, "boundaries": boundaries},
    }


def _check_split(source: Source, splitting: Splitting, staged: Staged) -> None:
    if splitting.kind == "given" and not staged.num_held_out:
        raise ConfigurationError(
            f"splitting=given needs events set apart by the log's publisher, and source {source.name} has none: "
            f"choose splitting=by_time or leave_one_out"
        )
    if splitting.kind != "given" and staged.num_held_out:
        raise ConfigurationError(
            f"splitting={splitting.kind} would train on the {staged.num_held_out} events that source {source.name} "
            f"sets apart for testing: choose splitting=given, or do not read them (source.held_out=false)"
        )


def _event_counts(staged: Staged, *, num_duplicates: int, in_sequences: int) -> dict[str, Any]:
    return {
        "read": staged.num_read,
        "accepted": staged.num_accepted,
        "rejected": sum(staged.rejected.values()),
        "rejected_by_reason": dict(staged.rejected),
        "duplicates": num_duplicates,
        "accepted_by_type": dict(staged.event_types),
        "first_at_ms": staged.first_ms,
        "last_at_ms": staged.last_ms,
        "in_sequences": in_sequences,
    }


def _item_counts(
    vocabulary: Vocabulary, items: Items, rooms: Rooms, availability: pa.Table, *, knows_availability: bool
) -> dict[str, Any]:
    known = {name: vocabulary.size(name) - FIRST_INDEX for name in ("user", "streamer", "product")}
    return {
        "users": known["user"],
        "streamers": known["streamer"],
        "products": len(items.product),
        "products_outside_vocabulary": len(items.product) - known["product"],
        "rooms": len(rooms.ids),
        "rooms_without_end": rooms.num_without_end if knows_availability else None,
        "items": len(items.table),
        "availability_intervals": len(availability),
    }
