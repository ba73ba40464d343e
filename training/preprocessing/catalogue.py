"""Step 3: what exists and when it was there: vocabulary, items and the availability timeline."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.items import ROOM_LISTING_WINDOW_MS, ItemFacts, item_inputs
from roomrec.features.spec import FeatureSpec
from roomrec.features.timeline import ListingEvents, StockEvents, product_intervals
from roomrec.features.transforms import NUM_PRICE_BANDS, NUM_TITLE_TOKENS
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX, PAD_INDEX
from training.preprocessing.shuffle import Shuffle

AVAILABILITY_SCHEMA: Final = pa.schema(
    [(name, pa.int64()) for name in ("item_index", "room_item_index", "available_from_ms", "available_to_ms")]
)
"""How the timeline lies in ``availability.parquet``."""

_CODES = EVENT_TYPE_CODES
_LISTED, _UNLISTED, _STOCK = (_CODES[name] for name in ("product_listed", "product_unlisted", "stock_changed"))
_START_COLUMNS = ("row", "event_id", "occurred_at_ms", "room_id", "streamer_id", "category", "title")
_PRODUCT_COLUMNS = (
    "row", "event_id", "event_type", "occurred_at_ms", "room_id", "product_id", "amount_cents", "stock", "category", "title",
)  # fmt: skip
_ITEMS_AT_ONCE = 65_536

Int64Array = npt.NDArray[np.int64]


class Rooms(NamedTuple):
    """All rooms of a log by number, ordered by start, equals by id."""

    ids: list[str]
    """[R]"""
    number: dict[str, int]
    """Id to number"""
    streamer_ids: list[str | None]
    """[R]"""
    categories: list[str | None]
    """[R] as said when it started"""
    titles: list[str | None]
    """[R] as said when it started"""
    from_ms: Int64Array
    """[R] its room_start, or its first event where the log has none"""
    to_ms: Int64Array
    """[R] its room_end, or just after its last event where the log has none"""
    num_without_end: int
    """Rooms without a room_end after their start"""


class ProductFacts(NamedTuple):
    """What is known of a product, from its first listing or from the source."""

    category: str | None
    title: str | None
    price_cents: int | None
    known_from_ms: int
    """When it was said; -1 for ever"""


class Listings(NamedTuple):
    """What the events of products say: facts, the products rooms began with, and when each could be bought."""

    facts: dict[str, ProductFacts]
    first_products: dict[int, list[str]]
    """Room number to the products of its listing window, first listed first"""
    availability: list[tuple[Sequence[str], Int64Array, Int64Array, Int64Array, Int64Array]]
    """By partition: product ids, and for each interval place of its product, room number, from, to"""


def read_rooms(files: Sequence[Path], shuffle: Shuffle) -> Rooms:
    """Gather all rooms of a log.

    The first ``room_start`` and the first ``room_end`` after it count; a room that ended does not come back.
    """
    seen = shuffle.rooms(files)
    ids = seen["room_id"].to_pylist()
    place = {room_id: row for row, room_id in enumerate(ids)}
    from_ms, to_ms = seen["first_ms"].to_numpy().copy(), seen["last_ms"].to_numpy() + 1
    streamers: list[str | None] = seen["streamer_id"].to_pylist()
    categories: list[str | None] = [None] * len(ids)
    titles: list[str | None] = [None] * len(ids)
    starts = shuffle.select(files, columns=_START_COLUMNS, event_types=[_CODES["room_start"]])
    started = set()
    for room_id, at_ms, streamer_id, category, title in _rows(
        starts, "room_id", "occurred_at_ms", "streamer_id", "category", "title"
    ):
        if room_id not in started:
            started.add(room_id)
            row = place[room_id]
            from_ms[row], streamers[row], categories[row], titles[row] = at_ms, streamer_id, category, title
    ends = shuffle.select(files, columns=("event_id", "occurred_at_ms", "room_id"), event_types=[_CODES["room_end"]])
    ended = set()
    for room_id, at_ms in _rows(ends, "room_id", "occurred_at_ms"):
        row = place[room_id]
        if row not in ended and at_ms > from_ms[row]:
            ended.add(row)
            to_ms[row] = at_ms
    order = np.lexsort((np.arange(len(ids)), from_ms)).tolist()  # ids came in order
    return Rooms(
        ids=[ids[row] for row in order],
        number={ids[row]: number for number, row in enumerate(order)},
        streamer_ids=[streamers[row] for row in order],
        categories=[categories[row] for row in order],
        titles=[titles[row] for row in order],
        from_ms=from_ms[order],
        to_ms=to_ms[order],
        num_without_end=len(ids) - len(ended),
    )


def read_listings(
    files: Sequence[Path], shuffle: Shuffle, rooms: Rooms, *, work: Path, num_partitions: int, products: pa.Table
) -> Listings:
    """Gather what listings and stock counts say, partition by partition.

    Args:
        files: Staged files.
        shuffle: Does the shuffling.
        rooms: The rooms.
        work: Folder to work in.
        num_partitions: Partitions to shuffle into.
        products: What the source knows apart from events, in ``PRODUCT_SCHEMA``.
    """
    facts = {
        product_id: ProductFacts(category, title, price_cents, -1)
        for product_id, category, title, price_cents in _rows(products, *products.column_names)
    }
    openings: list[tuple[int, int, str, str]] = []
    availability = []
    shuffle.partition(
        files,
        work,
        key="product_id",
        columns=_PRODUCT_COLUMNS,
        num_partitions=num_partitions,
        event_types=[_LISTED, _UNLISTED, _STOCK],
    )
    for partition in shuffle.partitions(work, _PRODUCT_COLUMNS):
        events = partition.sort_by([("occurred_at_ms", "ascending"), ("event_id", "ascending")]).combine_chunks()
        code = events["event_type"].to_numpy()
        at_ms = events["occurred_at_ms"].to_numpy()
        names = events["product_id"].chunk(0).dictionary_encode() if len(events) else pa.array([], pa.string()).dictionary_encode()
        product_ids, product = names.dictionary.to_pylist(), names.indices.to_numpy().astype(np.int64)
        room = room_numbers(rooms.number, events["room_id"])
        listed = np.flatnonzero(code == _LISTED)
        listing = events.take(pa.array(listed))
        for row, product_id, event_id, price, category, title in zip(
            listed.tolist(),
            *(listing[name].to_pylist() for name in ("product_id", "event_id", "amount_cents", "category", "title")),
            strict=True,
        ):
            if product_id not in facts:
                facts[product_id] = ProductFacts(category, title, price, int(at_ms[row]))
            if at_ms[row] <= rooms.from_ms[room[row]] + ROOM_LISTING_WINDOW_MS:
                openings.append((int(room[row]), int(at_ms[row]), event_id, product_id))
        changed = (code == _LISTED) | (code == _UNLISTED)
        stock = np.asarray(pc.fill_null(events["stock"], -1))
        counted = stock >= 0
        found = product_intervals(
            ListingEvents(product[changed], room[changed], at_ms[changed], code[changed] == _LISTED),
            StockEvents(product[counted], at_ms[counted], stock[counted]),
            room_from_ms=rooms.from_ms,
            room_to_ms=rooms.to_ms,
        )
        availability.append((product_ids, *found))
    first_products: dict[int, list[str]] = {}
    for room_number, _, _, product_id in sorted(openings):
        begun = first_products.setdefault(room_number, [])
        if product_id not in begun:
            begun.append(product_id)
    return Listings(facts, first_products, availability)


def room_numbers(number: dict[str, int], room_ids: pa.ChunkedArray) -> Int64Array:
    """Return the number of each room, -1 for none, shape ``[n]``."""
    names = room_ids.combine_chunks().dictionary_encode()
    known = np.array([number[room_id] for room_id in names.dictionary.to_pylist()] + [-1], dtype=np.int64)
    return known[np.asarray(pc.fill_null(names.indices, len(known) - 1))]


def make_vocabulary(
    files: Sequence[Path],
    shuffle: Shuffle,
    rooms: Rooms,
    listings: Listings,
    *,
    before_ms: int | None,
    held_out: bool,
    min_count: int,
) -> Vocabulary:
    """Give every id seen often enough its index, the most frequent first, equals by id.

    Args:
        files: Staged files.
        shuffle: Does the counting.
        rooms: The rooms, for their categories.
        listings: The products, for their categories.
        before_ms: Only what was known before counts; None counts all.
        held_out: Whether what the publisher held out counts.
        min_count: Rarer users, streamers and products stay unknown.
    """
    ids: dict[str, pa.Array] = {}
    for namespace in ("user", "streamer", "product"):
        counted = shuffle.count(files, f"{namespace}_id", before_ms=before_ms, held_out=held_out)
        kept = counted.filter(pc.greater_equal(counted["count"], min_count))
        ids[namespace] = kept["id"].combine_chunks().cast(pa.string())
    limit = np.iinfo(np.int64).max if before_ms is None else before_ms
    categories = Counter(facts.category for facts in listings.facts.values() if facts.known_from_ms < limit)
    categories.update(category for category, at in zip(rooms.categories, rooms.from_ms, strict=True) if at < limit)
    named = sorted((-count, name) for name, count in categories.items() if name is not None)
    return Vocabulary(ids | {"category": pa.array([name for _, name in named], pa.string())})


def make_spec(
    vocabulary: Vocabulary, rooms: Rooms, listings: Listings, *, max_products: int, title_length: int
) -> FeatureSpec:
    """State the cardinalities; a feature this log does not know has 0."""
    sizes = {name: vocabulary.size(name) for name in ("user", "streamer", "product", "category")}
    sizes = {name: size if size > FIRST_INDEX else 0 for name, size in sizes.items()}
    has_title = any(rooms.titles) or any(facts.title for facts in listings.facts.values())
    has_price = any(facts.price_cents is not None for facts in listings.facts.values())
    return FeatureSpec(
        num_users=sizes["user"],
        num_streamers=sizes["streamer"],
        num_products=sizes["product"],
        num_categories=sizes["category"],
        num_title_tokens=NUM_TITLE_TOKENS if has_title else 0,
        num_price_bands=NUM_PRICE_BANDS if has_price else 0,
        max_products=max_products if rooms.ids else 1,
        title_length=title_length if has_title else 1,
    )


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
    """Lay out the item table: PAD, OOV, products by index, cold products by id, rooms by number."""
    known: list[str] = vocabulary.ids("product").to_pylist()
    cold = sorted(set(all_product_ids) - set(known))
    products = known + cold
    first_room = FIRST_INDEX + len(products)
    parts = [_item_rows([ItemFacts(None, [], None, None, None)] * FIRST_INDEX, vocabulary, spec)]
    nothing = ProductFacts(None, None, None, -1)
    for start in range(0, len(products), _ITEMS_AT_ONCE):
        chunk = products[start : start + _ITEMS_AT_ONCE]
        facts = [listings.facts.get(product_id, nothing) for product_id in chunk]
        described = [
            ItemFacts(None, [product_id], fact.category, fact.title, fact.price_cents)
            for product_id, fact in zip(chunk, facts, strict=True)
        ]
        index = np.arange(FIRST_INDEX + start, FIRST_INDEX + start + len(chunk))
        parts.append(_item_rows(described, vocabulary, spec, first=FIRST_INDEX + start, kind="product", popularity=index))
    for start in range(0, len(rooms.ids), _ITEMS_AT_ONCE):
        numbers = range(start, min(start + _ITEMS_AT_ONCE, len(rooms.ids)))
        described = [
            ItemFacts(
                rooms.streamer_ids[number],
                listings.first_products.get(number, []),
                rooms.categories[number],
                rooms.titles[number],
                None,
            )
            for number in numbers
        ]
        streamer = vocabulary.encode("streamer", [facts.streamer_id for facts in described])
        parts.append(
            _item_rows(
                described,
                vocabulary,
                spec,
                first=first_room + start,
                kind="room",
                room_ids=rooms.ids[start : numbers.stop],
                popularity=np.where(streamer == PAD_INDEX, 0, first_room + streamer),
                from_ms=rooms.from_ms[start : numbers.stop],
                to_ms=rooms.to_ms[start : numbers.stop],
            )
        )
    return Items(
        table=pa.concat_tables(parts).combine_chunks(),
        product={product_id: index for index, product_id in enumerate(products, start=FIRST_INDEX)},
        first_room=first_room,
    )


def _item_rows(
    described: Sequence[ItemFacts],
    vocabulary: Vocabulary,
    spec: FeatureSpec,
    *,
    first: int = 0,
    kind: str | None = None,
    room_ids: Sequence[str] | None = None,
    popularity: Int64Array | None = None,
    from_ms: Int64Array | None = None,
    to_ms: Int64Array | None = None,
) -> pa.Table:
    num_rows = len(described)
    inputs = item_inputs(described, vocabulary=vocabulary, spec=spec)
    is_product = kind == "product"
    return pa.table(
        {
            "item_index": pa.array(np.arange(first, first + num_rows)),
            "kind": pa.array([kind] * num_rows, pa.string()),
            "room_id": pa.nulls(num_rows, pa.string()) if room_ids is None else pa.array(room_ids, pa.string()),
            "product_id": pa.array([item.product_ids[0] if is_product else None for item in described], pa.string()),
            "streamer_id": pa.array([item.streamer_id for item in described], pa.string()),
            "category": pa.array([item.category for item in described], pa.string()),
            "title": pa.array([item.title for item in described], pa.string()),
            "price_cents": pa.array([item.price_cents for item in described], pa.int64()),
            "start_at_ms": pa.nulls(num_rows, pa.int64()) if from_ms is None else pa.array(from_ms),
            "end_at_ms": pa.nulls(num_rows, pa.int64()) if to_ms is None else pa.array(to_ms),
            "popularity_index": pa.array(np.zeros(num_rows, dtype=np.int64) if popularity is None else popularity),
            "streamer": pa.array(inputs["streamer"]),
            "product": _lists(inputs["product"]),
            "category_index": pa.array(inputs["category"]),
            "title_tokens": _lists(inputs["title"]),
            "price_band": pa.array(inputs["price_band"]),
        }
    )


def _lists(matrix: Int64Array) -> pa.ListArray:
    offsets = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(matrix.ravel()))


def make_availability(rooms: Rooms, listings: Listings, items: Items) -> pa.Table:
    """Lay out the timeline in ``AVAILABILITY_SCHEMA``, ordered by start, equals by item and room."""
    numbers = np.arange(len(rooms.ids)) + items.first_room
    parts: list[tuple[Any, ...]] = [(numbers, numbers, rooms.from_ms, rooms.to_ms)]
    for product_ids, product, room, from_ms, to_ms in listings.availability:
        index = np.array([items.product[product_id] for product_id in product_ids], dtype=np.int64)
        parts.append((index[product], room + items.first_room, from_ms, to_ms))
    item, room, from_ms, to_ms = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.lexsort((room, item, from_ms))
    return pa.table([pa.array(column[order]) for column in (item, room, from_ms, to_ms)], schema=AVAILABILITY_SCHEMA)


def _rows(table: pa.Table, *names: str) -> Any:
    return zip(*(table[name].to_pylist() for name in names), strict=True)
