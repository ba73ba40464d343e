"""A table of events, wherever it comes from, in the columns and types of the contract."""

import pyarrow as pa

from roomrec.errors import EventError
from roomrec.events.schema import EVENT_SCHEMA


def fit_columns(events: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema, in its order and types.

    Args:
        events: Any columns; those the schema does not have are left out, those the contract lets be null are filled.
        schema: ``EVENT_SCHEMA``, or one with the same columns in other types.

    Raises:
        EventError: If a column that must not be null is missing, or a column cannot be cast; the message names it.

    Example:
        >>> fit_columns(pa.table({"event_id": ["e1"], "stock": [3]}), EVENT_SCHEMA)
        Traceback (most recent call last):
        roomrec.errors.EventError: column event_type is missing; found ['event_id', 'stock']
    """
    columns = []
    for field, checked in zip(schema, EVENT_SCHEMA, strict=True):
        if field.name in events.column_names:
            column = events[field.name]
            try:
                columns.append(_cast(column, field.type))
            except pa.ArrowException as error:
                raise EventError(
                    f"column {field.name} is {column.type}, which does not fit {field.type}: {error}"
                ) from error
        elif checked.nullable:
            columns.append(pa.nulls(len(events), field.type))
        else:
            raise EventError(f"column {field.name} is missing; found {events.column_names}")
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    if column.type == to:
        return column
    if pa.types.is_dictionary(to) and not pa.types.is_dictionary(column.type):
        column = column.cast(pa.string()).dictionary_encode()
    return column.cast(to)
