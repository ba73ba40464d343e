"""The only door between external ids and dense indices."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from roomrec.errors import VocabularyError
from roomrec.features.pieces import Pause, no_pause, python_values
from roomrec.ids import FIRST_INDEX, OOV_INDEX, PAD_INDEX

NAMESPACES: Final = ("user", "streamer", "product", "category", "attribute")
"""The kinds of id a vocabulary knows, each counted from ``FIRST_INDEX`` on its own."""

_NUM_ALWAYS: Final = 4
_IDS_AT_ONCE: Final = 16_384

VOCABULARY_SCHEMA: Final = pa.schema(
    [
        pa.field("namespace", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
    ]
)
"""How a vocabulary lies in ``vocabulary.parquet``: one row per id, ordered by namespace and index."""


class Vocabulary:
    """Ids of users, streamers, products, categories and attributes, and their dense indices.

    Args:
        ids: For each namespace its ids; the first gets ``FIRST_INDEX``. A missing namespace is empty.
        pause: Called between pieces of the work.

    Raises:
        VocabularyError: If a namespace is unknown, or an id is null, empty or given twice.

    Example:
        >>> vocabulary = Vocabulary({"streamer": ["mia", "tom"]})
        >>> vocabulary.encode("streamer", ["tom", None, "nobody"])
        array([3, 0, 1])
        >>> vocabulary.size("streamer")
        4
    """

    def __init__(self, ids: Mapping[str, Sequence[str] | pa.Array], *, pause: Pause = no_pause) -> None:
        if unknown := set(ids) - set(NAMESPACES):
            raise VocabularyError(f"unknown namespaces {sorted(unknown)}; known are {list(NAMESPACES)}")
        self._ids: dict[str, pa.Array] = {}
        self._indices: dict[str, dict[str, int]] = {}
        for namespace in NAMESPACES:
            values = ids.get(namespace, ())
            array = values if isinstance(values, pa.Array) else pa.array(list(values), pa.string())
            names = python_values(array, pause=pause)
            indices = {name: index for index, name in enumerate(names, start=FIRST_INDEX)}
            if len(indices) != len(array) or None in indices or "" in indices:
                raise VocabularyError(f"ids of namespace {namespace!r} must be distinct, not null and not empty")
            self._ids[namespace] = array
            self._indices[namespace] = indices

    def size(self, namespace: str) -> int:
        """Return the number of dense indices of a namespace, PAD and OOV included."""
        return FIRST_INDEX + len(self._ids[namespace])

    def ids(self, namespace: str) -> pa.Array:
        """Return the ids of a namespace in index order, the first standing for ``FIRST_INDEX``."""
        return self._ids[namespace]

    def index(self, namespace: str, external_id: str | None) -> int:
        """Return one id's index: ``PAD_INDEX`` for None, ``OOV_INDEX`` for an unknown id."""
        if external_id is None:
            return PAD_INDEX
        return self._indices[namespace].get(external_id, OOV_INDEX)

    def encode(self, namespace: str, external_ids: Sequence[str | None]) -> npt.NDArray[np.int64]:
        """Return the indices of a few ids, shape ``[n]`` int64; None gives PAD, an unknown id OOV."""
        get = self._indices[namespace].get
        return np.fromiter(
            (PAD_INDEX if name is None else get(name, OOV_INDEX) for name in external_ids),
            dtype=np.int64,
            count=len(external_ids),
        )

    def encode_array(self, namespace: str, external_ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Return the indices of many ids held by Arrow, shape ``[n]`` int64; null gives PAD, an unknown id OOV."""
        found = pc.index_in(external_ids, value_set=self._ids[namespace])
        known = pc.fill_null(pc.add(found.cast(pa.int64()), FIRST_INDEX), OOV_INDEX)
        indices = pc.if_else(pc.is_null(external_ids), PAD_INDEX, known)
        return np.asarray(indices, dtype=np.int64)

    def decode(self, namespace: str, index: int) -> str:
        """Return the id behind an index.

        Raises:
            VocabularyError: If the index is PAD, OOV or out of range.
        """
        if not FIRST_INDEX <= index < self.size(namespace):
            raise VocabularyError(
                f"{namespace} index {index} stands for no id: {FIRST_INDEX}..{self.size(namespace) - 1}"
            )
        return str(self._ids[namespace][index - FIRST_INDEX].as_py())

    def fingerprint(self) -> str:
        """Return the sha256 of every id in order: equal exactly when all indices mean the same."""
        return _fingerprint(self._ids.items())

    def to_table(self) -> pa.Table:
        """Return the vocabulary in ``VOCABULARY_SCHEMA``."""
        parts = [
            pa.table(
                {
                    "namespace": pa.array([namespace] * len(ids), pa.string()),
                    "id": ids.cast(pa.string()),
                    "index": pa.array(np.arange(FIRST_INDEX, FIRST_INDEX + len(ids)), pa.int64()),
                },
                schema=VOCABULARY_SCHEMA,
            )
            for namespace, ids in self._ids.items()
        ]
        return pa.concat_tables(parts).combine_chunks()

    @classmethod
    def from_table(cls, table: pa.Table, *, pause: Pause = no_pause) -> Self:
        """Read what ``to_table`` wrote.

        Args:
            table: In ``VOCABULARY_SCHEMA``.
            pause: Called between pieces of the work.

        Raises:
            VocabularyError: If columns are missing or the indices of a namespace are not dense.
        """
        if not table.schema.equals(VOCABULARY_SCHEMA):
            raise VocabularyError(f"vocabulary has columns {table.schema.names}, expected {VOCABULARY_SCHEMA.names}")
        ids: dict[str, pa.Array] = {}
        for namespace in pc.unique(table["namespace"]).to_pylist():
            rows = table.filter(pc.equal(table["namespace"], namespace)).sort_by("index").combine_chunks()
            expected = np.arange(FIRST_INDEX, FIRST_INDEX + len(rows))
            if not np.array_equal(rows["index"].to_numpy(), expected):
                raise VocabularyError(f"indices of namespace {namespace!r} are not dense from {FIRST_INDEX}")
            column = rows["id"]
            ids[namespace] = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        return cls(ids, pause=pause)


def fingerprint_of_file(path: Path) -> str:
    """Return the fingerprint of the vocabulary in a Parquet file, a few ids in memory at a time.

    Args:
        path: What ``to_table`` wrote.

    Raises:
        VocabularyError: If the file holds another namespace, or has not the columns of a vocabulary.
    """
    file = pq.ParquetFile(path, pre_buffer=False)
    if not file.schema_arrow.equals(VOCABULARY_SCHEMA):
        raise VocabularyError(
            f"{path} has columns {file.schema_arrow.names}, expected those of a vocabulary, {VOCABULARY_SCHEMA.names}"
        )
    return _fingerprint(
        (namespace, rows.filter(pc.equal(rows["namespace"], namespace))["id"])
        for rows in file.iter_batches(batch_size=_IDS_AT_ONCE, columns=["namespace", "id"], use_threads=False)
        for namespace in pc.unique(rows["namespace"]).to_pylist()
    )


def _fingerprint(pieces: Iterable[tuple[str, pa.Array]]) -> str:
    """Digest ids that come namespace by namespace, each in one or several pieces."""
    digest = hashlib.sha256()
    begun = 0
    for namespace, ids in pieces:
        if namespace not in NAMESPACES[max(begun - 1, 0) :]:
            raise VocabularyError(f"namespace {namespace!r} is unknown or out of order; in order {list(NAMESPACES)}")
        stop = NAMESPACES.index(namespace) + 1
        if not len(ids):
            continue
        digest.update("".join(f"\x1d{name}\x1d" for name in NAMESPACES[begun:stop]).encode())
        begun = max(begun, stop)
        for start in range(0, len(ids), _IDS_AT_ONCE):
            digest.update("".join(f"{name}\x1e" for name in ids[start : start + _IDS_AT_ONCE].to_pylist()).encode())
    # what came later than categories leaves no trace while it is empty, so that older vocabularies keep theirs
    digest.update("".join(f"\x1d{name}\x1d" for name in NAMESPACES[begun:_NUM_ALWAYS]).encode())
    return digest.hexdigest()
