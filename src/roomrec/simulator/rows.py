"""Simulated events as number columns, before they get ids and become Arrow."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.events.schema import EVENT_TYPE_CODES, VIEWER_EVENT_TYPES

NONE: Final = -1
"""Stands for null in every integer column."""

IntColumn = npt.NDArray[np.int64] | int
"""A column, or one value for all rows."""


class EventRows(NamedTuple):
    """Events of one day, n of them; ``NONE`` is null."""

    event_type: npt.NDArray[np.int8]
    """[n] codes of EVENT_TYPE_CODES"""
    at_ms: npt.NDArray[np.int64]
    """[n]"""
    user: npt.NDArray[np.int32]
    """[n]"""
    room: npt.NDArray[np.int32]
    """[n] number in the day's rooms; its streamer follows from it"""
    streamer: npt.NDArray[np.int32]
    """[n]"""
    product: npt.NDArray[np.int32]
    """[n]"""
    watch_time_ms: npt.NDArray[np.int32]
    """[n]"""
    amount_cents: npt.NDArray[np.int32]
    """[n]"""
    quantity: npt.NDArray[np.int32]
    """[n]"""
    stock: npt.NDArray[np.int32]
    """[n]"""
    request: npt.NDArray[np.int32]
    """[n] number of the slate within the day"""
    position: npt.NDArray[np.int32]
    """[n]"""
    propensity: npt.NDArray[np.float32]
    """[n] NaN is null"""
    context: npt.NDArray[np.int32]
    """[n] number of the context, see ``arrow.py``"""
    since_click_ms: npt.NDArray[np.int32]
    """[n] for carts and orders the time since the click they come from, else 0; not part of the log"""


def event_rows(
    event_type: str,
    *,
    at_ms: npt.NDArray[np.int64],
    user: IntColumn = NONE,
    room: IntColumn = NONE,
    streamer: IntColumn = NONE,
    product: IntColumn = NONE,
    watch_time_ms: IntColumn = NONE,
    amount_cents: IntColumn = NONE,
    quantity: IntColumn = NONE,
    stock: IntColumn = NONE,
    request: IntColumn = NONE,
    position: IntColumn = NONE,
    propensity: npt.NDArray[np.float32] | float = np.nan,
    context: IntColumn = NONE,
    since_click_ms: IntColumn = 0,
) -> EventRows:
    """Make events of one type; columns that are left out are null."""
    num = len(at_ms)
    return EventRows(
        event_type=np.full(num, EVENT_TYPE_CODES[event_type], dtype=np.int8),
        at_ms=at_ms.astype(np.int64),
        user=_column(user, num),
        room=_column(room, num),
        streamer=_column(streamer, num),
        product=_column(product, num),
        watch_time_ms=_column(watch_time_ms, num),
        amount_cents=_column(amount_cents, num),
        quantity=_column(quantity, num),
        stock=_column(stock, num),
        request=_column(request, num),
        position=_column(position, num),
        propensity=np.broadcast_to(np.asarray(propensity, dtype=np.float32), (num,)),
        context=_column(context, num),
        since_click_ms=_column(since_click_ms, num),
    )


def join_rows(parts: list[EventRows]) -> EventRows:
    """Put events one after another."""
    return EventRows._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def take_rows(rows: EventRows, index: npt.NDArray[np.generic]) -> EventRows:
    """Pick events by number or by mask."""
    return EventRows._make(column[index] for column in rows)


def number_rows(rows: EventRows) -> npt.NDArray[np.int64]:
    """Number what rooms do and what viewers do, each from 0 in the order given.

    Two counts, so that the ids of room events do not depend on what is known of viewers.
    """
    viewers = by_viewer(rows)
    return np.where(viewers, np.cumsum(viewers), np.cumsum(~viewers)) - 1


def by_viewer(rows: EventRows) -> npt.NDArray[np.bool_]:
    """Return which events are of viewers, the others being of rooms."""
    return rows.event_type <= len(VIEWER_EVENT_TYPES)


def of_type(rows: EventRows, *event_types: str) -> npt.NDArray[np.bool_]:
    """Return which events are of one of the types."""
    return np.isin(rows.event_type, [EVENT_TYPE_CODES[name] for name in event_types])


def _column(values: IntColumn, num: int) -> npt.NDArray[np.int32]:
    return np.broadcast_to(np.asarray(values).astype(np.int32), (num,))
