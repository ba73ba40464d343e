"""Events as NDJSON, one JSON object a line, plain or ``.gz``: read and written piece by piece."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec
import pyarrow as pa

from roomrec.events.schema import EVENT_SCHEMA
from roomrec.events.validation import REJECTED_SCHEMA, UNCHECKED_SCHEMA, Rejection, read_fields

MALFORMED_JSON: Final = "malformed_json"
"""Reason for a line that is not a JSON object."""

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder()
_ID_TEXT = ("event_id", "event_type")


class NdjsonPiece(NamedTuple):
    """A piece of a file."""

    events: pa.Table
    """Lines that could be read, in ``UNCHECKED_SCHEMA``, not yet validated."""
    rejected: pa.Table
    """Lines that could not, in ``REJECTED_SCHEMA``, each kept in ``raw``."""


def read_ndjson(file: Path, *, batch_rows: int = 131_072) -> Iterator[NdjsonPiece]:
    """Read a file piece by piece.

    A line without ``received_at_ms`` was received when it occurred: a file does not say when it arrived.

    Args:
        file: The file, plain or ``.gz``.
        batch_rows: Most lines in a piece.

    Yields:
        Pieces in the order of the file; empty lines are skipped.
    """
    events: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    with _open(file, "rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            fields = _decode(line)
            event = Rejection(MALFORMED_JSON) if fields is None else read_fields(fields)
            if isinstance(event, Rejection):
                rejected.append(_kept(line, fields or {}, event.reason))
            else:
                if event["received_at_ms"] is None:
                    event["received_at_ms"] = event["occurred_at_ms"]
                events.append(event)
            if len(events) + len(rejected) >= batch_rows:
                yield _piece(events, rejected)
                events, rejected = [], []
    if events or rejected:
        yield _piece(events, rejected)


def write_ndjson(tables: Iterable[pa.Table], file: Path) -> int:
    """Write events, one a line, columns without a value left out.

    Args:
        tables: Events in ``EVENT_SCHEMA``, piece by piece.
        file: Where to; replaced if there. ``.gz`` compresses.

    Returns:
        Lines written.
    """
    written = 0
    with _open(file, "wb") as target:
        for table in tables:
            for event in table.cast(EVENT_SCHEMA).to_pylist(maps_as_pydicts="strict"):
                given = {name: value for name, value in event.items() if value is not None}
                target.write(_ENCODER.encode(given) + b"\n")
                written += 1
    return written


def _open(file: Path, mode: str) -> IO[bytes]:
    if file.suffix != ".gz":
        return open(file, mode)
    # no time stamp inside, so that equal events make equal bytes
    return gzip.GzipFile(file, mode, mtime=0)  # type: ignore[return-value]


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        fields = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _kept(line: bytes, fields: dict[str, Any], reason: str) -> dict[str, Any]:
    """A rejected line, with whatever ids could be read, so that its sender can be found."""
    names = {name: fields.get(name) for name in _ID_TEXT}
    readable = {name: value for name, value in names.items() if not isinstance(read_fields({name: value}), Rejection)}
    return readable | {"reason": reason, "raw": line.decode(errors="replace").rstrip("\r\n")}


def _piece(events: list[dict[str, Any]], rejected: list[dict[str, Any]]) -> NdjsonPiece:
    columns = [
        pa.array([_pairs(event[name]) if name == "context" else event[name] for event in events], field.type)
        for name, field in zip(UNCHECKED_SCHEMA.names, UNCHECKED_SCHEMA, strict=True)
    ]
    return NdjsonPiece(
        pa.table(columns, schema=UNCHECKED_SCHEMA), pa.Table.from_pylist(rejected, schema=REJECTED_SCHEMA)
    )


def _pairs(context: dict[str, str] | None) -> list[tuple[str, str]] | None:
    return None if context is None else list(context.items())
