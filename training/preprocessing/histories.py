"""Step 4: one partition of users after another becomes histories with labels and splits."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import OOV_INDEX, PAD_INDEX
from roomrec.sequences.dataset import SPLITS
from roomrec.sequences.histories import Histories
from roomrec.sequences.history import HISTORY_EVENT_TYPES, ViewerEvents, build_history
from roomrec.sequences.labels import label_targets
from roomrec.sequences.splitting import Splitting, UnsplitHistories
from roomrec.sequences.storage import EVENT_COLUMNS, HistoriesWriter
from training.preprocessing.items import Items
from training.preprocessing.rooms import Rooms, room_numbers
from training.preprocessing.shuffle import Shuffle

_COLUMNS: Final = (
    "row", "event_id", "event_type", "occurred_at_ms", "received_at_ms", "user_id", "streamer_id", "room_id",
    "product_id", "watch_time_ms", "held_out",
)  # fmt: skip
_HISTORY_CODES = [EVENT_TYPE_CODES[name] for name in HISTORY_EVENT_TYPES]
_PRODUCT_CODES = [EVENT_TYPE_CODES[name] for name in ("product_click", "add_to_cart", "order")]

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What counts as a positive, as ``label_targets`` takes it."""

    target_types: Sequence[str]
    min_watch_time_ms: int
    enter_window_ms: int
    only_new: bool | None = None
    """Whether to train on what a user has for the first time only; None: where what a user had before is no answer"""


@dataclass
class Written:
    """Counts of what was written."""

    num_sequences: int = 0
    num_events: int = 0
    splits: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in SPLITS})


@dataclass(frozen=True, kw_only=True)
class HistoryBuilder:
    """Turns the events of some users into rows of ``sequences/``.

    Attributes:
        vocabulary: Ids to indices.
        items: Items, for the item of each event.
        rooms: Rooms, for the room of each event.
        labels: What counts as a positive.
        splitting: How to split.
        boundaries: What ``splitting.boundaries`` returned.
        ordered: Whether the log knows in which order things happened.
        filter_seen: Whether what a user had before is no answer.
        event_types: Types that histories are made of; None takes all that there are.
    """

    vocabulary: Vocabulary
    items: Items
    rooms: Rooms
    labels: Labels
    splitting: Splitting
    boundaries: dict[str, int]
    ordered: bool
    filter_seen: bool
    event_types: Sequence[str] | None = None

    def build(self, events: pa.Table) -> Histories:
        """Build the histories of all users of a partition.

        Args:
            events: Viewer events in the order of the log.

        Returns:
            The users that have a history, by user index, unknown users by id.
        """
        if self.event_types is not None:
            codes = pa.array([EVENT_TYPE_CODES[name] for name in self.event_types], events["event_type"].type)
            events = events.filter(pc.is_in(events["event_type"], value_set=codes))
        users = events["user_id"].combine_chunks().dictionary_encode()
        names: list[str] = users.dictionary.to_pylist()
        index = self.vocabulary.encode("user", names)
        # unknown users share an index, but not a history
        order = sorted(range(len(names)), key=lambda place: (index[place], names[place]))
        number = np.empty(len(names), dtype=np.int64)
        number[order] = np.arange(len(names))
        watch_time_ms = np.asarray(pc.fill_null(events["watch_time_ms"], -1))
        history = build_history(
            ViewerEvents(
                user=number[users.indices.to_numpy()],
                event_id=_ranks(events["event_id"]),
                event_type=events["event_type"].to_numpy().astype(np.int64),
                occurred_at_ms=events["occurred_at_ms"].to_numpy(),
                received_at_ms=events["received_at_ms"].to_numpy(),
                streamer_index=self._encode("streamer", events["streamer_id"]),
                product_index=self._encode("product", events["product_id"]),
                watch_time_ms=watch_time_ms,
            )
        )
        rows = history.source_row
        room = room_numbers(self.rooms.number, events["room_id"])[rows]
        target = label_targets(
            user=history.user,
            room=room + 1,
            event_type=history.event_type,
            occurred_at_ms=history.occurred_at_ms,
            watch_time_ms=watch_time_ms[rows],
            target_types=self.labels.target_types,
            min_watch_time_ms=self.labels.min_watch_time_ms,
            enter_window_ms=self.labels.enter_window_ms,
        )
        held_out = np.asarray(events["held_out"].combine_chunks().to_numpy(zero_copy_only=False))[rows]
        room_item = np.where(room >= 0, room + self.items.first_room, PAD_INDEX)
        product_item = self._product_items(events["product_id"])[rows]
        item = np.where(np.isin(history.event_type, _PRODUCT_CODES), product_item, room_item)
        # a type that may be a target is one only where there is something to recommend
        target &= item > OOV_INDEX
        present, offsets = _offsets(history.user)
        split, target = self.splitting.assign(
            UnsplitHistories(
                user_ids=[names[order[user]] for user in present.tolist()],
                offsets=offsets,
                occurred_at_ms=history.occurred_at_ms,
                event_type=history.event_type,
                target=target,
                held_out=held_out,
                item_index=item,
                ordered=self.ordered,
                filter_seen=self.filter_seen,
            ),
            self.boundaries,
        )
        if self.filter_seen if self.labels.only_new is None else self.labels.only_new:
            # a model would learn to repeat, which is never asked
            target = target & ((split != SPLITS["train"]) | _first_times(history.user, item))
        columns = {
            "event_type": history.event_type,
            "streamer_index": history.streamer_index,
            "product_index": history.product_index,
            "watch_time_bucket": history.watch_time_bucket,
            "item_index": item,
            "room_item_index": room_item,
            "target": target,
            "split": split,
        }
        if not self.ordered:
            # nothing is known of the order, so what a split may see is put before what it asks for
            by_split = np.lexsort((split, history.user))
            columns = {name: column[by_split] for name, column in columns.items()}
        columns = {"occurred_at_ms": history.occurred_at_ms} | columns
        return Histories(
            user_index=index[order][present],
            offsets=offsets,
            **{name: column.astype(EVENT_COLUMNS[name]) for name, column in columns.items()},
        )

    def _encode(self, namespace: str, ids: pa.ChunkedArray) -> Int64Array:
        """Indices of many ids by way of the distinct ones, so that a partition costs what it holds."""
        names = ids.combine_chunks().dictionary_encode()
        known = np.append(self.vocabulary.encode(namespace, names.dictionary.to_pylist()), PAD_INDEX)
        return known[np.asarray(pc.fill_null(names.indices, len(known) - 1))]

    def _product_items(self, ids: pa.ChunkedArray) -> Int64Array:
        names = ids.combine_chunks().dictionary_encode()
        known = np.array([self.items.product[name] for name in names.dictionary.to_pylist()] + [PAD_INDEX])
        return known[np.asarray(pc.fill_null(names.indices, len(known) - 1))]


def write_histories(
    files: Sequence[Path],
    shuffle: Shuffle,
    builder: HistoryBuilder,
    *,
    work: Path,
    folder: Path,
    num_partitions: int,
    advance: Callable[[int], None],
) -> Written:
    """Build and write the histories of a whole log.

    Args:
        files: Staged files.
        shuffle: Brings the events of a user together.
        builder: Builds the histories.
        work: Folder to work in.
        folder: Where the columns go.
        num_partitions: Partitions to shuffle into.
        advance: Told the number of events of each partition that was written.
    """
    written = Written()
    with HistoriesWriter(folder) as writer:
        for events in users_of(files, shuffle, work=work, num_partitions=num_partitions):
            histories = builder.build(events)
            writer.append(
                user_index=histories.user_index,
                lengths=np.diff(histories.offsets),
                columns={name: getattr(histories, name) for name in EVENT_COLUMNS},
            )
            _count(histories, written)
            advance(len(events))
    return written


def users_of(files: Sequence[Path], shuffle: Shuffle, *, work: Path, num_partitions: int) -> Iterator[pa.Table]:
    """Bring the events of each user together, a partition of users at a time."""
    shuffle.partition(
        files, work, key="user_id", columns=_COLUMNS, num_partitions=num_partitions, event_types=_HISTORY_CODES
    )
    yield from shuffle.partitions(work, _COLUMNS)


def _first_times(user: Int64Array, item: Int64Array) -> npt.NDArray[np.bool_]:
    """Whether each event is the first of its user with its item, oldest first within a user."""
    _, first = np.unique(user * (int(item.max(initial=0)) + 1) + item, return_index=True)
    is_first = np.zeros(len(user), dtype=bool)
    is_first[first] = True
    return is_first


def _ranks(event_ids: pa.ChunkedArray) -> Int64Array:
    """Numbers that sort as the ids do; equal ids get equal numbers."""
    ids = event_ids.combine_chunks().dictionary_encode()
    rank = np.empty(len(ids.dictionary), dtype=np.int64)
    rank[pc.array_sort_indices(ids.dictionary).to_numpy()] = np.arange(len(rank))
    return rank[ids.indices.to_numpy()]


def _offsets(user: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Distinct users and where their events begin, from their numbers in order."""
    first = np.flatnonzero(np.diff(user, prepend=-1))
    return user[first], np.append(first, len(user)).astype(np.int64)


def _count(histories: Histories, written: Written) -> None:
    user = np.repeat(np.arange(len(histories.user_index)), np.diff(histories.offsets))
    written.num_sequences += len(histories.user_index)
    written.num_events += len(histories.split)
    for name, code in SPLITS.items():
        asked = (histories.split == code) & histories.target
        written.splits[name]["events"] += int((histories.split == code).sum())
        written.splits[name]["targets"] += int(asked.sum())
        written.splits[name]["users"] += len(np.unique(user[asked]))
