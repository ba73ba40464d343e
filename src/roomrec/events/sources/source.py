"""The one interface behind which every log format hides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import pyarrow as pa

from roomrec.errors import SourceError
from roomrec.events.validation import REJECTED_SCHEMA, UNCHECKED_SCHEMA

PRODUCT_SCHEMA: Final = pa.schema(
    [
        pa.field("product_id", pa.string(), nullable=False),
        pa.field("category", pa.string()),
        pa.field("title", pa.string()),
        pa.field("price_cents", pa.int64()),
        pa.field("attributes", pa.string()),
    ]
)
"""What a shop's log says of its products apart from events; ``attributes`` are written as in the event contract."""


class SourceBatch(NamedTuple):
    """A piece of a log."""

    events: pa.Table
    """Events in ``UNCHECKED_SCHEMA``, not yet validated."""
    rejected: pa.Table
    """What could not be read as an event at all, in ``REJECTED_SCHEMA``."""
    held_out: bool
    """Whether the log's publisher set these events apart for testing."""


class Source(Protocol):
    """A log of events, whatever it looks like on disk."""

    expects: str
    """What ``path`` must be, for messages."""
    name: str
    """Default name of the processed dataset."""
    ordered: bool
    """Whether the log knows in which order things happened."""
    filter_seen: bool
    """Whether metrics remove what a user had before, as the published results of this log do."""

    def read(self) -> Iterator[SourceBatch]:
        """Read the log piece by piece, so that memory does not grow with it."""
        ...

    def products(self) -> pa.Table:
        """Return what is known of products apart from events, in ``PRODUCT_SCHEMA``; mostly nothing."""
        ...

    def notes(self) -> dict[str, int]:
        """Return counts of the decisions taken on what the files say, once everything was read."""
        ...


def batch(*, num_events: int, held_out: bool = False, **columns: Any) -> SourceBatch:
    """Make a piece from a few columns; the others are null, and events are received when they occur.

    Args:
        num_events: Rows.
        held_out: As in ``SourceBatch``.
        **columns: Arrays of ``num_events`` values by column name, or one string for all.
    """
    columns.setdefault("received_at_ms", columns["occurred_at_ms"])
    arrays = []
    for field in UNCHECKED_SCHEMA:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(num_events, field.type))
        elif isinstance(values, str):
            arrays.append(pa.repeat(pa.scalar(values, field.type), num_events))
        else:
            ready = isinstance(values, pa.Array | pa.ChunkedArray)
            arrays.append(values.cast(field.type) if ready else pa.array(values, field.type))
    return SourceBatch(pa.table(arrays, schema=UNCHECKED_SCHEMA), REJECTED_SCHEMA.empty_table(), held_out)


def existing(path: str | Path, *, what: str, key: str = "path") -> Path:
    """Return the path of a file or folder that must be there.

    Args:
        path: Where it should be.
        what: What it is and where it comes from, for the message.
        key: The source's setting that named it.

    Raises:
        SourceError: If nothing is there.
    """
    found = Path(path)
    if not found.exists():
        raise SourceError(f"source.{key}: {found} does not exist; expected {what}")
    return found
