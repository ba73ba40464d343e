"""The steps one after another: a source in, a processed dataset and its summary out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import ConfigurationError
from roomrec.events.erasure import ErasedUsers
from roomrec.events.schema import ROOM_EVENT_TYPES
from roomrec.events.sources.source import Source
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX
from roomrec.sequences.histories import Histories
from roomrec.sequences.splitting import Splitting
from roomrec.sequences.storage import map_columns
from training.preprocessing.duplicates import drop_duplicates
from training.preprocessing.histories import HistoryBuilder, Labels, users_of, write_histories
from training.preprocessing.items import AVAILABILITY_SCHEMA, Items, make_availability, make_items
from training.preprocessing.leakage import Known, check_features, check_splits
from training.preprocessing.listings import Listings, read_listings
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
    erased: ErasedUsers,
    folder: Path,
    work: Path,
    labels: Labels,
    event_types: Sequence[str] | None,
    features: Mapping[str, int],
    vocabulary_from: str | None,
    min_count: int,
    events_per_partition: int,
    check_leakage: bool,
    report: Report,
) -> dict[str, Any]:
    """Write everything but ``summary.json``.

    Args:
        source: The log.
        splitting: How to split.
        shuffle: Does the shuffling and counting.
        erased: Users whose events are left out.
        folder: Where the dataset goes.
        work: Folder for intermediate files.
        labels: What counts as a positive.
        event_types: Types that histories are made of; None takes all that there are.
        features: Lengths of the bags, as ``make_spec`` takes them.
        vocabulary_from: One of ``VOCABULARY_FROM``.
        min_count: Rarer ids stay unknown.
        events_per_partition: What fits in memory at once.
        check_leakage: Whether to shuffle the future of a sample and see that nothing of the past changes.
        report: Shows progress.

    Returns:
        What ``summary.json`` shall say of it.

    Raises:
        ConfigurationError: If the settings contradict each other.
        EventError: If the log cannot be read.
        DatasetError: If it holds no valid event, or the future leaks into the past.
    """
    only_train = (vocabulary_from or splitting.vocabulary_from) == "train"
    if only_train and splitting.kind == "leave_one_out":
        raise ConfigurationError("vocabulary.from=train needs splitting=by_time or given, received leave_one_out")
    staged = stage(
        source, erased, work=work / "staged", rejected=folder / "rejected", advance=report("read and validate")
    )
    _check_split(source, splitting, staged)
    boundaries = splitting.boundaries(staged.first_ms or 0, staged.last_ms or 0)
    num_partitions = math.ceil(staged.num_accepted / events_per_partition)
    report("drop duplicates")
    num_duplicates = drop_duplicates(staged, shuffle, work=work / "ids", num_partitions=num_partitions)

    report("gather rooms and products")
    before_ms = boundaries.get("validation_from_ms") if only_train else None
    knowing = {"before_ms": before_ms, "held_out": not only_train, "min_count": min_count}
    products = source.products()
    rooms, listings, product_ids = _gather(
        staged.files, shuffle, products=products, work=work / "listings", num_partitions=num_partitions
    )
    vocabulary = make_vocabulary(staged.files, shuffle, rooms, listings, **knowing)
    spec = make_spec(vocabulary, rooms, listings, **features)
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
        event_types=event_types,
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

    def rebuild(file: Path, work: Path) -> Known:
        rooms, listings, product_ids = _gather(
            [file], shuffle, products=products, work=work / "listings", num_partitions=1
        )
        items = make_items(product_ids, rooms, listings, vocabulary=vocabulary, spec=spec)
        then = None if before_ms is None else make_vocabulary([file], shuffle, rooms, listings, **knowing)
        events = next(users_of([file], shuffle, work=work / "users", num_partitions=1))
        return Known(
            items=items.table,
            availability=make_availability(rooms, listings, items),
            histories=replace(builder, items=items, rooms=rooms).build(events),
            vocabulary_fingerprint=then and then.fingerprint(),
        )

    leakage = None
    if check_leakage:
        report("shuffle the future")
        check_splits(Histories(**map_columns(folder / "sequences")), ordered=source.ordered, boundaries=boundaries)
        # in a log without order there is no future
        if source.ordered:
            leakage = check_features(
                staged.files,
                rebuild,
                at_ms=boundaries.get("validation_from_ms"),
                label_window_ms=None if splitting.kind == "given" else labels.enter_window_ms,
                work=work / "leakage",
            )
    return {
        "leakage": leakage,
        "events_of_erased_users": staged.num_erased,
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


def _gather(
    files: Sequence[Path], shuffle: Shuffle, *, products: pa.Table, work: Path, num_partitions: int
) -> tuple[Rooms, Listings, list[str]]:
    """Find all rooms, what was said of products, and the ids of all products."""
    rooms = read_rooms(files, shuffle)
    listings = read_listings(files, shuffle, rooms, work=work, num_partitions=num_partitions, products=products)
    return rooms, listings, shuffle.count(files, "product_id", before_ms=None)["id"].to_pylist()


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
