"""A processed dataset as preprocessing left it: histories, items, availability, and the questions of evaluation."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import DatasetError
from roomrec.features.as_of import PRODUCT_KIND, ROOM_KIND, AvailabilityTimeline
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary, fingerprint_of_file
from roomrec.sequences.histories import Histories
from roomrec.sequences.queries import Queries, draw_queries
from roomrec.sequences.storage import map_columns

TRAIN_SPLIT: Final = 0
"""Events a model may learn from."""

VALIDATION_SPLIT: Final = 1
"""Events that choose between models."""

TEST_SPLIT: Final = 2
"""Events that are looked at once."""

SPLITS: Final = {"train": TRAIN_SPLIT, "validation": VALIDATION_SPLIT, "test": TEST_SPLIT}
"""Split names and codes."""

HOW_TO_FILL_A_SPLIT: Final = {
    "by_time": "preprocess again with an earlier splitting.validation_from or splitting.test_from, or a longer log",
    "leave_one_out": "preprocess a log in which users have three targets or more each, or with splitting=by_time",
    "given": "preprocess again with a larger splitting.validation_share, or a source with more held-out events",
}
"""What to do about a split without targets, by the kind of splitting."""

Int64Array = npt.NDArray[np.int64]


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
        vocabulary_file: Path,
        items: ItemTable,
        item_rows: pa.Table,
        availability: AvailabilityTimeline,
        histories: Histories,
    ) -> None:
        self.summary = summary
        self.spec = FeatureSpec.from_dict(summary["feature_spec"])
        self.vocabulary_file = vocabulary_file
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
        vocabulary_file = path / "vocabulary.parquet"
        if fingerprint_of_file(vocabulary_file) != summary["vocabulary_fingerprint"]:
            raise DatasetError(
                f"vocabulary.parquet in {path} is not the one summary.json was written with: preprocess again"
            )
        rows = pq.read_table(path / "items.parquet")
        return cls(
            summary=summary,
            vocabulary_file=vocabulary_file,
            items=_item_table(rows, max_attributes=FeatureSpec.from_dict(summary["feature_spec"]).max_attributes),
            item_rows=rows,
            availability=_timeline(pq.read_table(path / "availability.parquet")),
            histories=_histories(path / "sequences"),
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids behind the indices, read when first asked for: training never does, so it holds no row a user."""
        return Vocabulary.from_table(pq.read_table(self.vocabulary_file))

    @property
    def vocabulary_fingerprint(self) -> str:
        """What the vocabulary's indices mean, in 64 letters."""
        return str(self.summary["vocabulary_fingerprint"])

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

    def queries(self, split: str, *, max_queries: int | None = None, seed: int = 0) -> Queries:
        """Return the questions of a split, or a random part of them, the same for the same seed, in order.

        An ordered log gives one question for each target event of the split, with everything before it as history; a
        log without order gives one for each user, with all targets of the split, and the splits before it as history.

        Args:
            split: ``train``, ``validation`` or ``test``.
            max_queries: The most to draw; None takes all. Only what is drawn takes memory.
            seed: Of the draw.

        Raises:
            DatasetError: If the split holds no target.
        """
        queries = draw_queries(
            self.histories,
            self.items.kind,
            split=SPLITS[split],
            ordered=self.ordered,
            max_queries=max_queries,
            seed=seed,
        )
        if not len(queries.row):
            kind = self.summary.get("split", {}).get("kind")
            raise DatasetError(f"the {split} split holds no target event: {HOW_TO_FILL_A_SPLIT.get(kind, 'add data')}")
        return queries


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


def _histories(folder: Path) -> Histories:
    histories = Histories(**map_columns(folder))
    if not len(histories.user_index):
        raise DatasetError(f"{folder} holds no user: the log has no viewer events, or all were rejected")
    return histories
