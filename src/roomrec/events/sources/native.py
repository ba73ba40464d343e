"""RoomRec's own logs: a folder of Parquet by day, or NDJSON."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import EventError, SourceError
from roomrec.events.ndjson import read_ndjson
from roomrec.events.sources.source import PRODUCT_SCHEMA, SourceBatch, existing
from roomrec.events.validation import REJECTED_SCHEMA, unchecked

_ENDINGS = (".parquet", ".ndjson", ".jsonl", ".ndjson.gz", ".jsonl.gz")
_WHAT = "a folder of day=YYYY-MM-DD/part-*.parquet, or of NDJSON files (.ndjson or .jsonl, .gz as well), or one file"


class Native:
    """Events in the contract's own columns, from one file or every file below a folder.

    Files are read in order of path. Nothing but ``.parquet``, ``.ndjson`` and ``.jsonl`` (or ``.gz`` of the latter two)
    is looked at.

    Args:
        path: A folder or file.
        batch_rows: Most events in a piece.
        name: Default name of the processed dataset.
    """

    expects = _WHAT
    ordered = True
    filter_seen = False

    def __init__(self, *, path: str, batch_rows: int = 131_072, name: str = "native") -> None:
        self.path = existing(path, what=_WHAT)
        self.name = name
        self._batch_rows = batch_rows

    def read(self) -> Iterator[SourceBatch]:
        """Read every file.

        Raises:
            SourceError: If there is none.
            EventError: If a Parquet file cannot be read, or a column of it does not fit the contract.
        """
        found = [self.path] if self.path.is_file() else sorted(self.path.rglob("*"))
        files = [file for file in found if file.name.endswith(_ENDINGS) and file.is_file()]
        if not files:
            raise SourceError(f"source.path: {self.path} holds no file ending in {', '.join(_ENDINGS)}")
        for file in files:
            yield from self._read_parquet(file) if file.suffix == ".parquet" else self._read_ndjson(file)

    def products(self) -> pa.Table:
        """Return nothing: products describe themselves in ``product_listed`` events."""
        return PRODUCT_SCHEMA.empty_table()

    def notes(self) -> dict[str, int]:
        """Return nothing: no decision was taken on what the files say."""
        return {}

    def _read_parquet(self, file: Path) -> Iterator[SourceBatch]:
        try:
            with pq.ParquetFile(file) as parquet:
                for piece in parquet.iter_batches(batch_size=self._batch_rows):
                    yield SourceBatch(unchecked(pa.table(piece)), REJECTED_SCHEMA.empty_table(), held_out=False)
        except EventError as error:
            raise EventError(f"{file}: {error}") from error
        except (pa.ArrowException, OSError) as error:
            raise EventError(f"{file} cannot be read as events: {error}") from error

    def _read_ndjson(self, file: Path) -> Iterator[SourceBatch]:
        for piece in read_ndjson(file, batch_rows=self._batch_rows):
            yield SourceBatch(piece.events, piece.rejected, held_out=False)
