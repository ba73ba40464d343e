"""Step 5: shuffle the future. What was known as of an instant must not change when everything after it does."""

import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import DatasetError
from roomrec.events.schema import EVENT_TYPE_CODES, VIEWER_EVENT_TYPES
from roomrec.features.items import ROOM_LISTING_WINDOW_MS
from roomrec.sequences.dataset import TEST_SPLIT, TRAIN_SPLIT, VALIDATION_SPLIT
from roomrec.sequences.histories import Histories, blocks_of

MAX_EVENTS: Final = 1 << 16
"""Events of the sample on which features are checked, half of them before the instant: a second or two of work."""

_FILES_LOOKED_AT = 2
_ENTER, _LISTED, _ROOM_START, _ROOM_END = (
    EVENT_TYPE_CODES[name] for name in ("enter", "product_listed", "room_start", "room_end")
)
_TOGETHER = (("user_id",), ("room_id", "streamer_id"), ("product_id",), ("amount_cents",), ("stock",),
             ("category",), ("title",), ("attributes",), ("watch_time_ms",), ("occurred_at_ms",))  # fmt: skip
_LATER = ("item_index", "popularity_index", "end_at_ms")


class Known(NamedTuple):
    """What preprocessing makes of a log."""

    items: pa.Table
    """rows of ``items.parquet``"""
    availability: pa.Table
    """rows of ``availability.parquet``"""
    histories: Histories
    vocabulary_fingerprint: str | None
    """None where ids of the future are known on purpose"""


Rebuild = Callable[[Path, Path], Known]
"""Makes of a staged file what preprocessing makes of it, in a work folder."""


def check_features(
    files: Sequence[Path], rebuild: Rebuild, *, at_ms: int | None, label_window_ms: int | None, work: Path
) -> dict[str, Any] | None:
    """Rebuild a sample of the log twice, as it was and with another future, and compare what was known before.

    Of the events from the instant on, a third is dropped, some ids become new ones, and every column of the others is
    shuffled among events of one type. Compared are: histories (what the user encoder gets), rows of items that were
    known (what the item encoder gets), when things were available, labels whose window was over, and the vocabulary.
    A room younger than its listing window, one that started after something had happened in it, and a product first
    listed after it was clicked are left out: what is known of these is still to come.

    Args:
        files: Staged files, duplicates dropped.
        rebuild: The steps of preprocessing.
        at_ms: The instant; None takes the middle of the events in the middle of the log.
        label_window_ms: How long an enter waits for its label; None leaves labels out.
        work: Folder to work in.

    Returns:
        The instant and how much was compared; None if the sample lies on one side of it.

    Raises:
        DatasetError: If anything differs: the future leaks into the past.
    """
    events, at_ms = sample_around(files, at_ms)
    past = events["occurred_at_ms"].to_numpy() < at_ms
    if past.all() or not past.any():
        return None
    work.mkdir(parents=True)
    views = []
    for name, table in (("was", events), ("altered", shuffle_future(events, at_ms, seed=at_ms % 2**32))):
        pq.write_table(table, work / f"{name}.parquet", compression="lz4")
        views.append(_as_of(rebuild(work / f"{name}.parquet", work / name), events.filter(pa.array(past)), at_ms))
    was, altered = views
    compared = {
        "history events": (was.histories, altered.histories),
        "items": (was.items, altered.items),
        "availability intervals": (was.availability, altered.availability),
        "vocabulary": (was.vocabulary, altered.vocabulary),
    }
    for what, (before, after) in compared.items():
        if before != after:
            raise DatasetError(_leak(what, before, after, at_ms))
    labels = [] if label_window_ms is None else _settled(was, altered, at_ms - label_window_ms)
    if labels and labels[0] != labels[1]:
        raise DatasetError(_leak("labels", *labels, at_ms))
    return {
        "as_of_ms": at_ms,
        "future_events_altered": int(np.count_nonzero(~past)),
        "past_events": int(np.count_nonzero(past)),
        "compared": {
            "availability_intervals": len(was.availability),
            "history_events": len(was.histories),
            "items": len(was.items),
            "labels": len(labels[0]) if labels else 0,
            "vocabulary": bool(was.vocabulary),
        },
    }


def check_splits(histories: Histories, *, ordered: bool, boundaries: dict[str, int]) -> None:
    """Check that no user trains on what happened after a question, and that instants separate splits by time.

    Args:
        histories: Everybody's events, as they were written.
        ordered: Whether the log knows in which order things happened.
        boundaries: Instants between splits, if it is split by time.

    Raises:
        DatasetError: If a split reaches into the next.
    """
    for block in blocks_of(histories):
        part = block.histories
        within = np.ones(len(part.split), dtype=bool)
        within[part.offsets[:-1]] = False
        for what, column in (("split", part.split), ("time", part.occurred_at_ms)):
            back = np.flatnonzero((np.diff(column, prepend=column[:1]) < 0) & within)
            if len(back) and (ordered or what == "split"):
                raise DatasetError(
                    f"the {what} of event {block.first_event + back[0]} lies before that of the same user's event "
                    f"before it: training would see what came after a question; this is a fault of the splitting"
                )
        if boundaries:
            at_ms = part.occurred_at_ms
            expected = np.where(at_ms < boundaries["validation_from_ms"], TRAIN_SPLIT, VALIDATION_SPLIT)
            expected[at_ms >= boundaries["test_from_ms"]] = TEST_SPLIT
            if len(wrong := np.flatnonzero(part.split != expected)):
                raise DatasetError(
                    f"event {block.first_event + wrong[0]} of {_show(int(at_ms[wrong[0]]))} is in split "
                    f"{part.split[wrong[0]]}, by its time it belongs to {expected[wrong[0]]}: this is a fault of the "
                    f"splitting"
                )


def sample_around(files: Sequence[Path], at_ms: int | None) -> tuple[pa.Table, int]:
    """Return up to ``MAX_EVENTS`` events around an instant, in the order of the log, and the instant.

    Events of rooms and products are kept where they fit, and of the viewers' those of some users, by a hash.
    """
    if at_ms is None:
        middle = pq.read_table(files[len(files) // 2], columns=["occurred_at_ms"])["occurred_at_ms"].to_numpy()
        at_ms = int(np.sort(middle)[len(middle) // 2])
    spans = [_span(file) for file in files]
    distance = [0 if first < at_ms <= last else min(abs(first - at_ms), abs(last - at_ms)) for first, last in spans]
    nearest = sorted(np.argsort(distance, kind="stable")[:_FILES_LOOKED_AT].tolist())
    # a watch that went on at the instant is of both sides: its report belongs to neither
    events = pa.concat_tables(pq.read_table(files[number]) for number in nearest)
    occurred, watched = (np.asarray(events[name].fill_null(0)) for name in ("occurred_at_ms", "watch_time_ms"))
    events = events.filter(pa.array((occurred < at_ms) | (occurred - watched >= at_ms)))
    viewer = events["event_type"].to_numpy() <= len(VIEWER_EVENT_TYPES)
    users = events["user_id"].combine_chunks().dictionary_encode()
    lottery = np.array([zlib.crc32(name.encode()) for name in users.dictionary.to_pylist()] + [0], dtype=np.int64)
    draw = lottery[np.asarray(users.indices.fill_null(len(lottery) - 1))]
    past = events["occurred_at_ms"].to_numpy() < at_ms
    kept = np.zeros(len(events), dtype=bool)
    for side in (past, ~past):
        others = np.flatnonzero(side & ~viewer)[: MAX_EVENTS // 4]
        viewers = np.flatnonzero(side & viewer)
        viewers = viewers[np.argsort(draw[viewers], kind="stable")[: MAX_EVENTS // 2 - len(others)]]
        kept[others] = kept[viewers] = True
    return events.filter(pa.array(kept)).combine_chunks(), at_ms


def shuffle_future(events: pa.Table, at_ms: int, *, seed: int) -> pa.Table:
    """Return the events with all that happened from an instant on replaced by something else that could have happened.

    Args:
        events: Staged events.
        at_ms: The instant.
        seed: Of the shuffle.
    """
    rng = np.random.default_rng(seed)
    future = events["occurred_at_ms"].to_numpy() >= at_ms
    kept = ~future | (rng.random(len(events)) < 2 / 3)
    events, future = events.filter(pa.array(kept)).combine_chunks(), future[kept]
    code = events["event_type"].to_numpy()
    columns: dict[str, pa.Array] = {name: events[name].combine_chunks() for name in events.column_names}
    for names in _TOGETHER:
        source = np.arange(len(events))
        for each in np.unique(code[future]):
            rows = np.flatnonzero(future & (code == each))
            source[rows] = rng.permutation(rows)
        for name in names:
            columns[name] = columns[name].take(pa.array(source))
    for name in ("user_id", "product_id"):
        changed = future & (rng.random(len(events)) < 0.25)
        values = columns[name].to_pylist()
        columns[name] = pa.array(
            [f"{value}~" if new and value is not None else value for value, new in zip(values, changed, strict=True)],
            columns[name].type,
        )
    longest = np.asarray(columns["occurred_at_ms"]) - at_ms
    watched = np.asarray(columns["watch_time_ms"].fill_null(-1))
    watched = np.where(future, np.minimum(watched, longest), watched)
    columns["watch_time_ms"] = pa.array(watched, pa.int64(), mask=watched < 0)
    return pa.table(columns, schema=events.schema)


class _View(NamedTuple):
    """What was known as of an instant, by ids instead of indices, comparable as plain values."""

    histories: list[tuple[Any, ...]]
    items: list[Any]
    availability: list[tuple[Any, ...]]
    vocabulary: list[str]
    labels: list[bool]
    """of each event of ``histories``"""
    splits: list[int]
    """of each event of ``histories``"""


def _as_of(known: Known, past: pa.Table, at_ms: int) -> _View:
    names = [
        room or product
        for room, product in zip(known.items["room_id"].to_pylist(), known.items["product_id"].to_pylist(), strict=True)
    ]
    rooms, listed = _rooms_known(past, at_ms), _listed_before(past)
    flat = known.histories
    before = flat.occurred_at_ms < at_ms
    user = np.repeat(flat.user_index, np.diff(flat.offsets))
    inputs = ("occurred_at_ms", "event_type", "streamer_index", "product_index", "watch_time_bucket")
    columns = [getattr(flat, name)[before].tolist() for name in inputs]
    items = [getattr(flat, name)[before].tolist() for name in ("item_index", "room_item_index")]
    columns += [[names[index] for index in indices] for indices in items]
    return _View(
        histories=list(zip(user[before].tolist(), *columns, strict=True)),
        items=_known_items(known.items, rooms, listed, at_ms),
        availability=_availability(known.availability, names, rooms, at_ms),
        vocabulary=[known.vocabulary_fingerprint] if known.vocabulary_fingerprint else [],
        labels=flat.target[before].tolist(),
        splits=flat.split[before].tolist(),
    )


def _settled(was: _View, altered: _View, until_ms: int) -> list[list[tuple[Any, ...]]]:
    """Events whose labels are final, with their labels in both views: only an enter waits for its window to be over.

    A split that is counted from a user's end moves with it, and what is asked is labelled by other rules than what is
    trained on, so an event counts where it is in the same split.
    """
    kept = [
        before == after and (event[2] != _ENTER or event[1] <= until_ms)
        for event, before, after in zip(was.histories, was.splits, altered.splits, strict=True)
    ]
    return [
        [(*event, label) for event, label, counts in zip(view.histories, view.labels, kept, strict=True) if counts]
        for view in (was, altered)
    ]


class _RoomsKnown(NamedTuple):
    """What the past says of rooms."""

    settled_from_ms: dict[str, int]
    """when the listing window of each room begins; a room that started after something happened in it is left out"""
    known_until_ms: dict[str, int]
    """until when each room is known to have been live: its end, else its last event"""


def _rooms_known(past: pa.Table, at_ms: int) -> _RoomsKnown:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    started: dict[str, int] = {}
    ended: dict[str, int] = {}
    rows = zip(*(past[name].to_pylist() for name in ("room_id", "event_type", "occurred_at_ms")), strict=True)
    for room, code, occurred_at_ms in sorted((row for row in rows if row[0] is not None), key=lambda row: row[2]):
        first.setdefault(room, occurred_at_ms)
        last[room] = occurred_at_ms
        if code == _ROOM_START:
            started.setdefault(room, occurred_at_ms)
        elif code == _ROOM_END and occurred_at_ms > started.get(room, first[room]):
            ended.setdefault(room, occurred_at_ms)
    return _RoomsKnown(started, {room: ended.get(room, last[room] + 1) for room in started})


def _listed_before(past: pa.Table) -> set[str]:
    return set(past.filter(pa.array(past["event_type"].to_numpy() == _LISTED))["product_id"].to_pylist())


def _known_items(rows: pa.Table, rooms: _RoomsKnown, listed: set[str], at_ms: int) -> list[Any]:
    """Rows of rooms whose listing window is over and of products listed before, without what only the end tells."""
    kept = [
        rooms.settled_from_ms.get(room, at_ms) + ROOM_LISTING_WINDOW_MS < at_ms if room else product in listed
        for room, product in zip(rows["room_id"].to_pylist(), rows["product_id"].to_pylist(), strict=True)
    ]
    columns = [name for name in rows.column_names if name not in _LATER]
    found: list[dict[str, Any]] = rows.filter(pa.array(kept)).select(columns).to_pylist()
    return sorted(found, key=lambda row: (row["kind"], row["room_id"] or row["product_id"]))


def _availability(rows: pa.Table, names: list[str], rooms: _RoomsKnown, at_ms: int) -> list[tuple[Any, ...]]:
    """Intervals in known rooms, as far as the past says."""
    found = []
    for item, room, from_ms, to_ms in zip(*(column.to_pylist() for column in rows.columns), strict=True):
        until = min(rooms.known_until_ms.get(names[room], 0), at_ms)
        if from_ms < until:
            found.append((names[item], names[room], from_ms, min(to_ms, until)))
    return sorted(found)


def _span(file: Path) -> tuple[int, int]:
    """First and last instant of a staged file, from its footer."""
    footer = pq.ParquetFile(file).metadata
    place = footer.schema.to_arrow_schema().get_field_index("occurred_at_ms")
    groups = [footer.row_group(number).column(place).statistics for number in range(footer.num_row_groups)]
    return min(group.min for group in groups), max(group.max for group in groups)


def _leak(what: str, before: Sequence[Any], after: Sequence[Any], at_ms: int) -> str:
    where = next((place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other), None)
    seen = (
        f"{len(before)} became {len(after)}"
        if where is None
        else f"{_short(before[where])} became {_short(after[where])}"
    )
    return (
        f"the future leaks into {what}: when everything from {_show(at_ms)} on was shuffled, what was known before "
        f"changed: {seen}. A feature may use only what had happened by then: look at what was changed last in "
        f"features/, sequences/ or preprocessing/, or pass check_leakage=false knowing that offline results will be "
        f"better than real ones"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _show(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat(timespec="seconds")
