"""A processed dataset as preprocessing left it: histories, items, availability, and the questions of evaluation."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import DatasetError
from roomrec.features.as_of import PRODUCT_KIND, ROOM_KIND, AvailabilityTimeline
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary

TRAIN_SPLIT: Final = 0
"""Events a model may learn from."""

VALIDATION_SPLIT: Final = 1
"""Events that choose between models."""

TEST_SPLIT: Final = 2
"""Events that are looked at once."""

SPLITS: Final = {"train": TRAIN_SPLIT, "validation": VALIDATION_SPLIT, "test": TEST_SPLIT}
"""Split names and codes."""

Int64Array = npt.NDArray[np.int64]


class Histories(NamedTuple):
    """Whole histories of U users, one after another, each oldest first, T events in all, mapped from disk."""

    user_index: Int64Array
    """[U]"""
    offsets: Int64Array
    """[U + 1]"""
    occurred_at_ms: Int64Array
    """[T]"""
    event_type: npt.NDArray[np.int8]
    """[T] codes"""
    streamer_index: npt.NDArray[np.int32]
    """[T]"""
    product_index: npt.NDArray[np.int32]
    """[T]"""
    watch_time_bucket: npt.NDArray[np.int8]
    """[T]"""
    item_index: npt.NDArray[np.int32]
    """[T] the product of a product event, else the room; PAD if neither"""
    room_item_index: npt.NDArray[np.int32]
    """[T] the room it happened in, or PAD"""
    target: npt.NDArray[np.bool_]
    """[T] whether it is a positive label"""
    split: npt.NDArray[np.int8]
    """[T]"""


class ItemTable(NamedTuple):
    """Everything that can be recommended: V rows, the first two PAD and OOV; inputs of the item encoder by name."""

    kind: npt.NDArray[np.int8]
    """[V] 0 none, ROOM_KIND or PRODUCT_KIND"""
    popularity_index: Int64Array
    """[V] what counting models count: a product itself, a room its streamer; 0 none"""
    start_at_ms: Int64Array
    """[V] start of a room, -1 otherwise"""
    streamer: Int64Array
    """[V]"""
    product: Int64Array
    """[V, max_products]"""
    category: Int64Array
    """[V]"""
    title: Int64Array
    """[V, title_length]"""
    price_band: Int64Array
    """[V]"""
    attributes: Int64Array
    """[V, max_attributes]"""


class Queries(NamedTuple):
    """Q questions "what did this viewer choose next?", with what may be known when asking."""

    row: Int64Array
    """[Q] row of Histories"""
    stop: Int64Array
    """[Q] the history is the user's events before this place"""
    at_ms: Int64Array
    """[Q] when the choice was made"""
    target_offsets: Int64Array
    """[Q + 1]"""
    targets: Int64Array
    """[sum] item indices chosen"""
    room_item_index: Int64Array
    """[Q] for a product chosen inside a room, that room, else PAD"""
    kind: npt.NDArray[np.int8]
    """[Q] kind of what was chosen"""


class ProcessedDataset:
    """What training, evaluation and export read.

    Example::

        dataset = ProcessedDataset.open(Path("data/processed/beauty"))
        dataset.spec.num_products
    """

    def __init__(
        self,
        *,
        summary: dict[str, Any],
        vocabulary: Vocabulary,
        items: ItemTable,
        item_rows: pa.Table,
        availability: AvailabilityTimeline,
        histories: Histories,
    ) -> None:
        self.summary = summary
        self.spec = FeatureSpec.from_dict(summary["feature_spec"])
        self.vocabulary = vocabulary
        self.items = items
        self.item_rows = item_rows
        self.availability = availability
        self.histories = histories

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a finished dataset.

        Args:
            path: Its folder.

        Raises:
            DatasetError: If the folder is missing, was not finished, or does not fit its vocabulary.
        """
        if not path.is_dir():
            raise DatasetError(f"no processed dataset at {path}: make it with `python -m training.preprocess`")
        summary_file = path / "summary.json"
        if not summary_file.exists():
            raise DatasetError(f"{path} has no summary.json, so preprocessing did not finish: run it again")
        summary = json.loads(summary_file.read_text())
        vocabulary = Vocabulary.from_table(pq.read_table(path / "vocabulary.parquet"))
        if vocabulary.fingerprint() != summary["vocabulary_fingerprint"]:
            raise DatasetError(
                f"vocabulary.parquet in {path} is not the one summary.json was written with: preprocess again"
            )
        rows = pq.read_table(path / "items.parquet")
        return cls(
            summary=summary,
            vocabulary=vocabulary,
            items=_item_table(rows, max_attributes=FeatureSpec.from_dict(summary["feature_spec"]).max_attributes),
            item_rows=rows,
            availability=_timeline(pq.read_table(path / "availability.parquet")),
            histories=_histories(sorted((path / "sequences").glob("part-*.arrow")), path),
        )

    @property
    def ordered(self) -> bool:
        """Whether the log knows in which order things happened."""
        return bool(self.summary["ordered"])

    @property
    def knows_availability(self) -> bool:
        """Whether the log knows what was live when."""
        return bool(self.summary["knows_availability"])

    @property
    def filter_seen(self) -> bool:
        """Whether metrics remove what the user had before."""
        return bool(self.summary["filter_seen"])

    def queries(self, split: str) -> Queries:
        """Return the questions of a split.

        An ordered log gives one question for each target event of the split, with everything before it as history; a
        log without order gives one for each user, with all targets of the split, and the splits before it as history.

        Args:
            split: ``train``, ``validation`` or ``test``.

        Raises:
            DatasetError: If the split holds no target.
        """
        histories = self.histories
        chosen = np.flatnonzero(histories.target & (histories.split == SPLITS[split]) & (histories.item_index > 1))
        if not len(chosen):
            raise DatasetError(
                f"the {split} split holds no target event: preprocess with other boundaries or more data"
            )
        row = np.searchsorted(histories.offsets, chosen, side="right") - 1
        targets = histories.item_index[chosen].astype(np.int64)
        kind = self.items.kind[targets]
        room = np.where(kind == PRODUCT_KIND, histories.room_item_index[chosen], 0).astype(np.int64)
        if self.ordered:
            offsets = np.arange(len(chosen) + 1, dtype=np.int64)
            return Queries(row, chosen, histories.occurred_at_ms[chosen], offsets, targets, room, kind)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        asked = row[first]
        earlier = np.concatenate([[0], np.cumsum(histories.split < SPLITS[split], dtype=np.int64)])
        stop = histories.offsets[asked] + earlier[histories.offsets[asked + 1]] - earlier[histories.offsets[asked]]
        offsets = np.append(first, len(chosen)).astype(np.int64)
        return Queries(asked, stop, histories.occurred_at_ms[chosen[first]], offsets, targets, room[first], kind[first])


def _item_table(rows: pa.Table, *, max_attributes: int) -> ItemTable:
    kinds = {"room": ROOM_KIND, "product": PRODUCT_KIND, None: 0}
    names = rows["kind"].cast(pa.string()).combine_chunks().dictionary_encode()
    by_code = np.array([kinds[name] for name in names.dictionary.to_pylist()] + [0], dtype=np.int8)
    codes = names.indices.fill_null(len(by_code) - 1).to_numpy(zero_copy_only=False)
    attributes = np.zeros((len(rows), max_attributes), dtype=np.int64)  # all there is in an older dataset
    if "attribute_indices" in rows.column_names:
        attributes = _matrix(rows["attribute_indices"])
    return ItemTable(
        kind=by_code[codes],
        popularity_index=rows["popularity_index"].to_numpy(),
        start_at_ms=rows["start_at_ms"].fill_null(-1).to_numpy(),
        streamer=rows["streamer"].to_numpy(),
        product=_matrix(rows["product"]),
        category=rows["category_index"].to_numpy(),
        title=_matrix(rows["title_tokens"]),
        price_band=rows["price_band"].to_numpy(),
        attributes=attributes,
    )


def _matrix(column: pa.ChunkedArray) -> Int64Array:
    """A column of lists of one length as ``[V, length]``."""
    return np.concatenate([np.asarray(chunk.flatten()) for chunk in column.chunks]).reshape(len(column), -1)


def _timeline(rows: pa.Table) -> AvailabilityTimeline:
    columns = ("item_index", "room_item_index", "available_from_ms", "available_to_ms")
    return AvailabilityTimeline(*(rows[name].to_numpy() for name in columns))


def _histories(files: list[Path], path: Path) -> Histories:
    if not files:
        raise DatasetError(f"{path / 'sequences'} holds no sequences: preprocess again, and look at rejected/")
    table = pa.concat_tables(pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files)
    if not len(table):
        raise DatasetError(f"{path / 'sequences'} holds no user: the log has no viewer events, or all were rejected")
    lengths = np.concatenate([np.diff(np.asarray(chunk.offsets)) for chunk in table["event_type"].chunks])
    offsets = np.zeros(len(table) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    flat = {name: _flat(table[name]) for name in Histories._fields if name not in ("user_index", "offsets")}
    return Histories(user_index=table["user_index"].to_numpy(), offsets=offsets, **flat)


def _flat(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """All values of a list column; one record batch stays mapped, several are copied together."""
    parts = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
