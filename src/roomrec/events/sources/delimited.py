"""Columns of text out of CSV and TSV files, plain or ``.gz``, piece by piece; and numbers out of the text."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from roomrec.errors import SourceError
from roomrec.events.sources.source import existing
from roomrec.events.validation import REJECTED_SCHEMA, UNCHECKED_SCHEMA, rejected_table

_BLOCK_BYTES = 8 * 2**20
_WHOLE_NUMBER = r"^-?\d{1,18}(\.0*)?$"


def read_delimited(
    file: Path, columns: Mapping[str, Sequence[str]], *, optional: Sequence[str] = (), what: str
) -> Iterator[pa.Table]:
    """Read some columns of a file as text; an empty cell is null.

    Args:
        file: The file; ``.tsv`` and ``.tsv.gz`` are separated by tabs, others by commas.
        columns: For each wanted column the names it goes by; the first that the header has is taken.
        optional: Wanted columns that may be missing; they are null then.
        what: What the file is and where it comes from, for the message.

    Yields:
        Tables of strings with the wanted columns in order.

    Raises:
        SourceError: If the file or a column is missing, or a line has another number of cells than the header.
    """
    existing(file, what=what)
    delimiter = "\t" if ".tsv" in file.suffixes else ","
    try:
        header = _header(file, delimiter)
        chosen = {name: next((each for each in aliases if each in header), None) for name, aliases in columns.items()}
        for name, found in chosen.items():
            if found is None and name not in optional:
                wanted = " or ".join(columns[name])
                raise SourceError(f"{file} has no column {wanted}; found {header}; expected {what}")
        present = [found for found in chosen.values() if found is not None]
        with pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            convert_options=pa.csv.ConvertOptions(
                include_columns=present,
                column_types=dict.fromkeys(present, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        ) as reader:
            for piece in reader:
                nothing = pa.nulls(len(piece), pa.string())
                yield pa.table({name: nothing if found is None else piece[found] for name, found in chosen.items()})
    except pa.ArrowInvalid as error:
        raise SourceError(f"{file} cannot be read as {what}: {error}") from error


def integers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read whole numbers (``12`` or, as some tools write them, ``12.0``); anything else is null."""
    whole = pc.match_substring_regex(column, _WHOLE_NUMBER)
    digits = pc.replace_substring_regex(pc.if_else(whole, column, None), r"\..*$", "")
    return digits.cast(pa.int64())


def unreadable(rows: pa.Table, numbers: Mapping[str, pa.ChunkedArray]) -> tuple[pa.Array, pa.Table]:
    """Find rows with a number nobody can read.

    Args:
        rows: Rows as text.
        numbers: For each column of the contract, the text it was read from.

    Returns:
        Whether each row can be used, and the others in ``REJECTED_SCHEMA``, each with its cells joined by tabs.
    """
    reason = pa.nulls(len(rows), pa.string())
    for name, text in numbers.items():
        broken = pc.and_(pc.is_valid(text), pc.is_null(integers(text)))
        reason = pc.if_else(pc.and_(pc.is_null(reason), broken), f"not_a_number:{name}", reason)
    good = pc.is_null(reason)
    if pc.all(good).as_py() or not len(rows):
        return good, REJECTED_SCHEMA.empty_table()
    bad = pc.invert(good)
    refused = rows.filter(bad)
    raw = pc.binary_join_element_wise(*refused.columns, "\t", null_handling="replace", null_replacement="")
    nothing = pa.table([pa.nulls(len(refused), field.type) for field in UNCHECKED_SCHEMA], schema=UNCHECKED_SCHEMA)
    return good, rejected_table(nothing, reason.filter(bad), raw)


def _header(file: Path, delimiter: str) -> list[str]:
    with pa.input_stream(str(file), compression="detect") as stream:
        first = stream.read(65_536).split(b"\n", 1)[0]
    return [
        name.strip().strip('"').lstrip("\ufeff") for name in first.decode(errors="replace").strip().split(delimiter)
    ]
