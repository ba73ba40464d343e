"""Step 3d: everything that can be recommended, one row each, and when it was there."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX, PAD_INDEX
from training.preprocessing.listings import Listings, ProductFacts
from training.preprocessing.rooms import Rooms

AVAILABILITY_SCHEMA: Final = pa.schema(
    [(name, pa.int64()) for name in ("item_index", "room_item_index", "available_from_ms", "available_to_ms")]
)
"""How the timeline lies in ``availability.parquet``."""

_ITEMS_AT_ONCE = 65_536
_UNKNOWN = ProductFacts(None, None, None, -1)

Int64Array = npt.NDArray[np.int64]


class Items(NamedTuple):
    """Everything that can be recommended, and where to find it."""

    table: pa.Table
    """Rows of ``items.parquet``"""
    product: dict[str, int]
    """Product id to item index"""
    first_room: int
    """Item index of room number 0"""


def make_items(
    all_product_ids: Sequence[str], rooms: Rooms, listings: Listings, *, vocabulary: Vocabulary, spec: FeatureSpec
) -> Items:
    """Lay out the item table: PAD, OOV, products by index, cold products by id, rooms by number.

    Popularity counts a product by itself and a room by its streamer, since a room has no past.
    """
    known: list[str] = vocabulary.ids("product").to_pylist()
    products = known + sorted(set(all_product_ids) - set(known))
    first_room = FIRST_INDEX + len(products)
    nothing = ItemFacts(None, [], None, None, None)
    parts = [_rows([nothing] * FIRST_INDEX, vocabulary, spec, item_index=np.arange(FIRST_INDEX))]
    for start in range(0, len(products), _ITEMS_AT_ONCE):
        ids = products[start : start + _ITEMS_AT_ONCE]
        index = np.arange(len(ids)) + FIRST_INDEX + start
        described = [_product(product_id, listings.facts.get(product_id, _UNKNOWN)) for product_id in ids]
        parts.append(
            _rows(described, vocabulary, spec, item_index=index, kind="product", product_id=ids, popularity_index=index)
        )
    for start in range(0, len(rooms.ids), _ITEMS_AT_ONCE):
        numbers = range(start, min(start + _ITEMS_AT_ONCE, len(rooms.ids)))
        streamer = vocabulary.encode("streamer", rooms.streamer_ids[start : numbers.stop])
        parts.append(
            _rows(
                [_room(number, rooms, listings) for number in numbers],
                vocabulary,
                spec,
                item_index=np.arange(numbers.start, numbers.stop) + first_room,
                kind="room",
                room_id=rooms.ids[start : numbers.stop],
                start_at_ms=rooms.from_ms[start : numbers.stop],
                end_at_ms=rooms.to_ms[start : numbers.stop],
                popularity_index=np.where(streamer == PAD_INDEX, 0, first_room + streamer),
            )
        )
    return Items(
        table=pa.concat_tables(parts).combine_chunks(),
        product={product_id: index for index, product_id in enumerate(products, start=FIRST_INDEX)},
        first_room=first_room,
    )


def _product(product_id: str, facts: ProductFacts) -> ItemFacts:
    return ItemFacts(None, [product_id], facts.category, facts.title, facts.price_cents, facts.attributes)


def _room(number: int, rooms: Rooms, listings: Listings) -> ItemFacts:
    products = listings.first_products.get(number, [])
    return ItemFacts(
        rooms.streamer_ids[number],
        products,
        rooms.categories[number],
        rooms.titles[number],
        None,
        rooms.attributes[number],
    )


def _rows(
    described: Sequence[ItemFacts],
    vocabulary: Vocabulary,
    spec: FeatureSpec,
    *,
    item_index: Int64Array,
    kind: str | None = None,
    room_id: Sequence[str] | None = None,
    product_id: Sequence[str] | None = None,
    start_at_ms: Int64Array | None = None,
    end_at_ms: Int64Array | None = None,
    popularity_index: Int64Array | None = None,
) -> pa.Table:
    """Rows of ``items.parquet``; what is not given is null, and a popularity index 0."""
    num_rows = len(described)
    inputs = item_inputs(described, vocabulary=vocabulary, spec=spec)

    def text(values: Sequence[str | None] | None) -> pa.Array:
        return pa.array(values or [None] * num_rows, pa.string())

    def whole(values: Int64Array | None) -> pa.Array:
        return pa.nulls(num_rows, pa.int64()) if values is None else pa.array(values, pa.int64())

    return pa.table(
        {
            "item_index": whole(item_index),
            "kind": text([kind] * num_rows),
            "room_id": text(room_id),
            "product_id": text(product_id),
            "streamer_id": text([item.streamer_id for item in described]),
            "category": text([item.category for item in described]),
            "title": text([item.title for item in described]),
            "attributes": text([item.attributes for item in described]),
            "price_cents": pa.array([item.price_cents for item in described], pa.int64()),
            "start_at_ms": whole(start_at_ms),
            "end_at_ms": whole(end_at_ms),
            "popularity_index": whole(popularity_index).fill_null(0),
            "streamer": whole(inputs["streamer"]),
            "product": _lists(inputs["product"]),
            "category_index": whole(inputs["category"]),
            "title_tokens": _lists(inputs["title"]),
            "price_band": whole(inputs["price_band"]),
            "attribute_indices": _lists(inputs["attributes"]),
        }
    )


def _lists(matrix: Int64Array) -> pa.ListArray:
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


def make_availability(rooms: Rooms, listings: Listings, items: Items) -> pa.Table:
    """Lay out the timeline in ``AVAILABILITY_SCHEMA``, ordered by start, equals by item and room."""
    numbers = np.arange(len(rooms.ids)) + items.first_room
    parts = [(numbers, numbers, rooms.from_ms, rooms.to_ms)]
    for product_ids, found in listings.availability:
        index = np.array([items.product[product_id] for product_id in product_ids], dtype=np.int64)
        parts.append((index[found.product], found.room + items.first_room, found.from_ms, found.to_ms))
    item, room, from_ms, to_ms = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((room, item, from_ms))
    return pa.table([pa.array(column[order]) for column in (item, room, from_ms, to_ms)], schema=AVAILABILITY_SCHEMA)
