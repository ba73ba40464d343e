"""Validation: an event either keeps the contract or is rejected with a reason; many at once, or one alone.

``validate_table`` is for files, ``validate_event`` for the endpoint. Both read the tables of ``schema.py`` and give the
same verdict. An event that breaks several rules is rejected for the first one, in the order in which ``_check`` lists
them. Reasons are stable codes that name the column: ``missing:room_id``, ``empty:user_id``, ``id_too_long:user_id``,
``not_a_string:user_id``, ``not_a_number:stock``, ``out_of_range:position``, ``negative:stock``, ``unknown_event_type``,
``occurred_before_epoch``, ``occurred_in_future``, ``not_a_map:context``, ``too_long:context``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.events.columns import fit_columns
from roomrec.events.schema import (
    EVENT_SCHEMA,
    EVENT_TYPE_CODES,
    EVENT_TYPES,
    ID_COLUMNS,
    MAX_CLOCK_SKEW_MS,
    MAX_CONTEXT_LENGTH,
    MAX_ID_LENGTH,
    MIN_OCCURRED_AT_MS,
    NEEDS_ANY_OF,
    NON_NEGATIVE_COLUMNS,
    REQUIRED_COLUMNS,
)

UNCHECKED_SCHEMA: Final = pa.schema(
    [pa.field(field.name, pa.string() if field.name == "event_type" else field.type) for field in EVENT_SCHEMA]
)
"""The contract's columns before validation: anything may be null and a type may be unknown."""

REJECTED_SCHEMA: Final = UNCHECKED_SCHEMA.append(pa.field("reason", pa.string(), nullable=False)).append(
    pa.field("raw", pa.string())
)
"""Rejected events: the columns as far as they could be read, the reason, and the line where nothing could be read."""

_TEXT_COLUMNS = tuple(field.name for field in EVENT_SCHEMA if field.type == pa.string() or field.name == "event_type")
_INTEGER_LIMITS = {
    field.name: 2 ** (field.type.bit_width - 1) for field in EVENT_SCHEMA if pa.types.is_integer(field.type)
}
_LARGEST_FLOAT32 = 3.4028234663852886e38
_TYPES_THAT_NEED = {
    column: tuple(name for name, needed in REQUIRED_COLUMNS.items() if column in needed)
    for column in dict.fromkeys(column for needed in REQUIRED_COLUMNS.values() for column in needed)
}


class Rejection(NamedTuple):
    """Why an event was not accepted."""

    reason: str
    """A stable code that names the column."""


def validate_event(fields: Mapping[str, Any], *, received_at_ms: int) -> dict[str, Any] | Rejection:
    """Validate one event; needs no Arrow.

    Args:
        fields: Column names and plain Python values, as JSON gives them; unknown names are left out.
        received_at_ms: When it arrived, by our clock; what the client says about it does not count.

    Returns:
        All columns of the contract with None where nothing was given, or the rejection.

    Example:
        >>> event = {"event_id": "e1", "event_type": "follow", "occurred_at_ms": 5, "user_id": "u1"}
        >>> validate_event(event, received_at_ms=6)
        Rejection(reason='missing:streamer_id')
        >>> validate_event(event | {"streamer_id": "mia"}, received_at_ms=4)["occurred_at_ms"]
        4
    """
    event = read_fields(fields)
    if isinstance(event, Rejection):
        return event
    event["received_at_ms"] = received_at_ms
    for reason in _reasons(event):
        return Rejection(reason)
    event["occurred_at_ms"] = min(event["occurred_at_ms"], received_at_ms)
    return event


def read_fields(fields: Mapping[str, Any]) -> dict[str, Any] | Rejection:
    """Check that values have the types of their columns, without asking what they mean.

    Returns:
        All columns of the contract with None where nothing was given, or the rejection.
    """
    event: dict[str, Any] = {name: fields.get(name) for name in EVENT_SCHEMA.names}
    for name in _TEXT_COLUMNS:
        if event[name] is not None and not _is_text(event[name]):
            return Rejection(f"not_a_string:{name}")
    for name, limit in _INTEGER_LIMITS.items():
        value = event[name]
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            return Rejection(f"not_a_number:{name}")
        if not -limit <= value < limit:
            return Rejection(f"out_of_range:{name}")
    propensity = event["propensity"]
    if propensity is not None and (not isinstance(propensity, int | float) or isinstance(propensity, bool)):
        return Rejection("not_a_number:propensity")
    context = event["context"]
    if context is not None:
        if not isinstance(context, Mapping):
            return Rejection("not_a_map:context")
        if not all(_is_text(part) for pair in context.items() for part in pair):
            return Rejection("not_a_string:context")
    return event


def _is_text(value: object) -> bool:
    """Whether a value is a string that UTF-8 can hold: JSON may smuggle in half a surrogate pair."""
    if not isinstance(value, str):
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reasons(event: Mapping[str, Any]) -> Iterator[str]:
    """Every rule a well-typed event breaks, in the order of ``_check``."""
    for name in ID_COLUMNS:
        value = event[name]
        if value is not None:
            if not value:
                yield f"empty:{name}"
            if len(value) > MAX_ID_LENGTH:
                yield f"id_too_long:{name}"
    for name in ("event_id", "event_type", "occurred_at_ms", "received_at_ms"):
        if event[name] is None:
            yield f"missing:{name}"
    event_type = event["event_type"]
    if event_type not in EVENT_TYPE_CODES:
        yield "unknown_event_type"
        return
    occurred_at_ms, received_at_ms = event["occurred_at_ms"], event["received_at_ms"]
    if occurred_at_ms < MIN_OCCURRED_AT_MS:
        yield "occurred_before_epoch"
    if received_at_ms < MIN_OCCURRED_AT_MS:
        yield "received_before_epoch"
    if occurred_at_ms - received_at_ms > MAX_CLOCK_SKEW_MS:
        yield "occurred_in_future"
    needed = REQUIRED_COLUMNS[event_type]
    for name in _TYPES_THAT_NEED:
        if name in needed and event[name] is None:
            yield f"missing:{name}"
    any_of = NEEDS_ANY_OF.get(event_type)
    if any_of and all(event[name] is None for name in any_of):
        yield f"missing:{'|'.join(any_of)}"
    for name in NON_NEGATIVE_COLUMNS:
        if event[name] is not None and event[name] < 0:
            yield f"negative:{name}"
    context = event["context"]
    if context and sum(len(key) + len(value) for key, value in context.items()) > MAX_CONTEXT_LENGTH:
        yield "too_long:context"
    propensity = event["propensity"]
    # written so that NaN breaks the rule too
    if propensity is not None and not abs(propensity) <= _LARGEST_FLOAT32:
        yield "not_a_number:propensity"


def validate_table(events: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Validate many events.

    Args:
        events: Events in ``UNCHECKED_SCHEMA`` or ``EVENT_SCHEMA``.

    Returns:
        The accepted events in ``EVENT_SCHEMA``, a fast clock already set right, and the rejected ones in
        ``REJECTED_SCHEMA``; both in the order in which they came.

    Raises:
        EventError: If a column is missing or has another type; the message names it.
    """
    events = unchecked(events)
    reason, reasons = _check(events)
    accepted = events if not reason.any() else events.filter(pa.array(reason == 0))
    occurred = pc.min_element_wise(accepted["occurred_at_ms"], accepted["received_at_ms"])
    columns = [occurred if name == "occurred_at_ms" else accepted[name] for name in EVENT_SCHEMA.names]
    names = EVENT_SCHEMA.get_field_index("event_type")
    columns[names] = columns[names].dictionary_encode().cast(EVENT_SCHEMA.field("event_type").type)
    bad = np.flatnonzero(reason)
    rejected = rejected_table(events.take(pa.array(bad)), pa.array(reasons, pa.string()).take(pa.array(reason[bad])))
    return pa.table(columns, schema=EVENT_SCHEMA), rejected


def unchecked(events: pa.Table) -> pa.Table:
    """Give a table the contract's columns, order and types, with nothing asked of the values.

    Raises:
        EventError: If a column that must not be null is missing, or one has a type that does not fit.
    """
    return fit_columns(events, UNCHECKED_SCHEMA)


def rejected_table(events: pa.Table, reason: pa.Array, raw: pa.Array | None = None) -> pa.Table:
    """Put rejected events in ``UNCHECKED_SCHEMA`` and their reasons together in ``REJECTED_SCHEMA``."""
    raw = pa.nulls(len(events), pa.string()) if raw is None else raw
    return pa.table([*events.columns, reason, raw], schema=REJECTED_SCHEMA)


def _check(events: pa.Table) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The first rule each row breaks: a place in the list of reasons, 0 for none."""
    reasons = ["accepted"]
    verdict = np.zeros(len(events), dtype=np.int64)

    def reject(broken: npt.NDArray[np.bool_], reason: str) -> None:
        verdict[broken & (verdict == 0)] = len(reasons)
        reasons.append(reason)

    null = {name: np.asarray(pc.is_null(events[name])) for name in events.column_names}
    for name in ID_COLUMNS:
        length = np.asarray(pc.fill_null(pc.utf8_length(events[name]), 1))
        reject(length == 0, f"empty:{name}")
        reject(length > MAX_ID_LENGTH, f"id_too_long:{name}")
    for name in ("event_id", "event_type", "occurred_at_ms", "received_at_ms"):
        reject(null[name], f"missing:{name}")
    codes = pc.index_in(events["event_type"], value_set=pa.array(EVENT_TYPES))
    code = np.asarray(pc.fill_null(codes, -1)) + 1
    reject(code == 0, "unknown_event_type")
    occurred, received = (np.asarray(pc.fill_null(events[name], 0)) for name in ("occurred_at_ms", "received_at_ms"))
    reject(occurred < MIN_OCCURRED_AT_MS, "occurred_before_epoch")
    reject(received < MIN_OCCURRED_AT_MS, "received_before_epoch")
    reject(occurred - np.maximum(received, MIN_OCCURRED_AT_MS) > MAX_CLOCK_SKEW_MS, "occurred_in_future")
    for name, types in _TYPES_THAT_NEED.items():
        reject(null[name] & np.isin(code, [EVENT_TYPE_CODES[each] for each in types]), f"missing:{name}")
    for event_type, any_of in NEEDS_ANY_OF.items():
        nothing = np.logical_and.reduce([null[name] for name in any_of])
        reject(nothing & (code == EVENT_TYPE_CODES[event_type]), f"missing:{'|'.join(any_of)}")
    for name in NON_NEGATIVE_COLUMNS:
        reject(np.asarray(pc.fill_null(pc.less(events[name], 0), False)), f"negative:{name}")
    reject(_context_length(events["context"]) > MAX_CONTEXT_LENGTH, "too_long:context")
    reject(~np.asarray(pc.fill_null(pc.is_finite(events["propensity"]), True)), "not_a_number:propensity")
    return verdict, reasons


def _context_length(contexts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Characters of each context, keys and values together, 0 for none."""
    length = np.zeros(len(contexts), dtype=np.int64)
    start = 0
    for chunk in contexts.chunks:
        pairs = chunk.cast(pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])))
        row = np.asarray(pc.list_parent_indices(pairs))
        for part in pc.list_flatten(pairs).flatten():
            characters = np.asarray(pc.fill_null(pc.utf8_length(part), 0))
            length[start : start + len(chunk)] += np.bincount(row, characters, minlength=len(chunk)).astype(np.int64)
        start += len(chunk)
    return length
