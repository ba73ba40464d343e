"""When each product could be bought in each room: listed there, in stock anywhere, and the room live."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

_ALWAYS = np.iinfo(np.int64).max


class ListingEvents(NamedTuple):
    """Listings and unlistings, oldest first (equal instants in the order that counts), n in all."""

    product: Int64Array
    """[n] a number for each product"""
    room: Int64Array
    """[n] a number for each room"""
    at_ms: Int64Array
    """[n]"""
    listed: npt.NDArray[np.bool_]
    """[n] whether it lists or unlists"""


class StockEvents(NamedTuple):
    """What was left of products, oldest first, m in all. A product has one stock, wherever it is sold."""

    product: Int64Array
    """[m]"""
    at_ms: Int64Array
    """[m]"""
    stock: Int64Array
    """[m] pieces left"""


class Intervals(NamedTuple):
    """Half-open intervals ``[from_ms, to_ms)``, k in all, ordered by product, room and start."""

    product: Int64Array
    """[k]"""
    room: Int64Array
    """[k]"""
    from_ms: Int64Array
    """[k]"""
    to_ms: Int64Array
    """[k]"""


def product_intervals(
    listings: ListingEvents, stocks: StockEvents, *, room_from_ms: Int64Array, room_to_ms: Int64Array
) -> Intervals:
    """Work out when each product could be bought in each room.

    The event that happened last decides, whenever it arrived. Before the first word about its stock a product counts
    as in stock.

    Args:
        listings: Listings and unlistings.
        stocks: Stock counts.
        room_from_ms: Start of each room by its number.
        room_to_ms: End of each room by its number.

    Returns:
        The intervals that are not empty.

    Example:
        >>> listings = ListingEvents(np.array([7]), np.array([0]), np.array([10]), np.array([True]))
        >>> stocks = StockEvents(np.array([7, 7]), np.array([30, 50]), np.array([0, 4]))
        >>> found = product_intervals(listings, stocks, room_from_ms=np.array([20]), room_to_ms=np.array([90]))
        >>> found.from_ms, found.to_ms
        (array([20, 50]), array([30, 90]))
    """
    order = np.lexsort((listings.room, listings.product))
    product, room, at_ms = (column[order] for column in (listings.product, listings.room, listings.at_ms))
    listed = listings.listed[order]
    until = _until_next((product, room), at_ms)
    # listed again while listed: one interval that goes on
    shown = Intervals(product[listed], room[listed], at_ms[listed], until[listed])
    shown = shown._replace(
        from_ms=np.maximum(shown.from_ms, room_from_ms[shown.room]),
        to_ms=np.minimum(shown.to_ms, room_to_ms[shown.room]),
    )
    sold_out = _sold_out(stocks)
    return _joined(_without(_not_empty(shown), sold_out))


def _sold_out(stocks: StockEvents) -> Intervals:
    """When each product was sold out."""
    order = np.argsort(stocks.product, kind="stable")
    product, at_ms, stock = (column[order] for column in stocks)
    until = _until_next((product,), at_ms)
    none = stock == 0
    return _joined(_not_empty(Intervals(product[none], np.zeros(none.sum(), np.int64), at_ms[none], until[none])))


def _until_next(groups: tuple[Int64Array, ...], at_ms: Int64Array) -> Int64Array:
    """The instant of the next row of the same group, or for ever."""
    until = np.full(len(at_ms), _ALWAYS)
    if len(at_ms):
        same = np.logical_and.reduce([group[1:] == group[:-1] for group in groups])
        until[:-1][same] = at_ms[1:][same]
    return until


def _not_empty(intervals: Intervals) -> Intervals:
    real = intervals.to_ms > intervals.from_ms
    return Intervals(*(column[real] for column in intervals))


def _joined(intervals: Intervals) -> Intervals:
    """Join neighbours of one product and room that touch."""
    if not len(intervals.product):
        return intervals
    touch = np.logical_and.reduce(
        [
            intervals.product[1:] == intervals.product[:-1],
            intervals.room[1:] == intervals.room[:-1],
            intervals.from_ms[1:] == intervals.to_ms[:-1],
        ]
    )
    first, last = np.append(True, ~touch), np.append(~touch, True)
    return Intervals(intervals.product[first], intervals.room[first], intervals.from_ms[first], intervals.to_ms[last])


def _without(shown: Intervals, sold_out: Intervals) -> Intervals:
    """Cut out of each interval when its product was sold out."""
    if not len(shown.product) or not len(sold_out.product):
        return shown
    # sold-out stretches of a product do not overlap, so both of their ends are in order within the product
    begin = _count_at(sold_out.product, sold_out.to_ms, shown.product, shown.from_ms)
    end = np.maximum(_count_at(sold_out.product, sold_out.from_ms, shown.product, shown.to_ms - 1), begin)
    gaps = end - begin
    # k gaps leave k + 1 pieces: from the start or a gap's end, to the next gap's start or the end
    pieces = gaps + 1
    row = np.repeat(np.arange(len(gaps)), pieces)
    place = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    gap = begin[row] + place
    last = len(sold_out.product) - 1
    start = np.where(place == 0, shown.from_ms[row], sold_out.to_ms[np.clip(gap - 1, 0, last)])
    stop = np.where(place == gaps[row], shown.to_ms[row], sold_out.from_ms[np.clip(gap, 0, last)])
    return _not_empty(Intervals(shown.product[row], shown.room[row], start, stop))


def _count_at(product: Int64Array, at_ms: Int64Array, asked_product: Int64Array, asked_ms: Int64Array) -> Int64Array:
    """How many of the rows, ordered by product and instant, lie at or before each asked product and instant."""
    both = np.concatenate([product, asked_product])
    instants = np.concatenate([at_ms, asked_ms])
    asked = np.arange(len(both)) >= len(product)
    order = np.lexsort((asked, instants, both))
    counted = np.cumsum(~asked[order])
    found = np.empty(len(both), dtype=np.int64)
    found[order] = counted
    return found[len(product) :]
