"""Small worlds whose answers are known beforehand, written as processed datasets."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary
from roomrec.sequences.storage import HistoriesWriter

HOUR_MS = 3_600_000
DAY_START_MS = 1_767_225_600_000  # 2026-01-01


def markov_chain_world(path: Path, *, num_users: int = 300, num_products: int = 12, seed: int = 1) -> Path:
    """Write a shop log in which product i is followed by i + 1 nine times out of ten, else by any.

    A perfect model has HR@1 of about .91 on test items; popularity is near chance, 1 / num_products.
    """
    rng = np.random.default_rng(seed)
    users = []
    for _ in range(num_users):
        product = int(rng.integers(num_products))
        events = []
        for _ in range(int(rng.integers(8, 16))):
            events.append(product)
            product = (product + 1) % num_products if rng.random() < 0.9 else int(rng.integers(num_products))
        users.append(events)
    return write_shop(path, users, num_products=num_products)


def hopeless_world(path: Path, *, num_users: int = 300, num_products: int = 50, seed: int = 1) -> Path:
    """Write a shop log of uniform noise: nobody can be better than chance."""
    rng = np.random.default_rng(seed)
    users = [list(map(int, rng.integers(num_products, size=int(rng.integers(5, 12))))) for _ in range(num_users)]
    return write_shop(path, users, num_products=num_products)


def write_shop(
    path: Path,
    users: Sequence[Sequence[int]],
    *,
    num_products: int,
    filter_seen: bool = False,
    product_ids: Sequence[str] | None = None,
) -> Path:
    """Write product clicks (products counted from 0) split leave-one-out; without other ids products are p0, p1 ..."""
    names = product_ids or [f"p{product}" for product in range(num_products)]
    vocabulary = Vocabulary(
        {
            "user": [f"u{row}" for row in range(len(users))],
            "product": names,
        }
    )
    spec = FeatureSpec(num_users=vocabulary.size("user"), num_streamers=2, num_products=vocabulary.size("product"))
    facts = [ItemFacts(None, [name], None, None, None) for name in names]
    histories = []
    for events in users:
        count = len(events)
        histories.append(
            {
                "occurred_at_ms": [DAY_START_MS + place * HOUR_MS for place in range(count)],
                "event_type": [EVENT_TYPE_CODES["product_click"]] * count,
                "streamer_index": [0] * count,
                "product_index": [product + 2 for product in events],
                "watch_time_bucket": [0] * count,
                "item_index": [product + 2 for product in events],
                "room_item_index": [0] * count,
                "target": [True] * count,
                "split": [0] * (count - 2) + [1, 2],
            }
        )
    return _write(path, vocabulary, spec, facts, [], histories, filter_seen=filter_seen)


def live_room_world(path: Path, *, num_users: int = 200, num_days: int = 6, seed: int = 1) -> Path:
    """Write a live log: six hosts in two categories, rooms of one hour, viewers who like one category.

    Every evening three rooms are live at once in each of two hours; the two hours hold one host of each category and a
    third of either. A viewer of category c enters a room of c whenever one is live, so a model that knows the viewer
    and what is live has the right room among the first two. The last day is test, the one before validation.
    """
    rng = np.random.default_rng(seed)
    hosts = [f"s{host}" for host in range(6)]
    vocabulary = Vocabulary(
        {"user": [f"u{row}" for row in range(num_users)], "streamer": hosts, "category": ["beauty", "tools"]}
    )
    spec = FeatureSpec(
        num_users=vocabulary.size("user"),
        num_streamers=vocabulary.size("streamer"),
        num_products=2,
        num_categories=vocabulary.size("category"),
    )
    category_of = [host % 2 for host in range(6)]
    facts, intervals, rooms = [], [], {}
    for day in range(num_days):
        for slot, members in enumerate(((0, 1, 2), (3, 4, 5))):
            start = DAY_START_MS + day * 24 * HOUR_MS + (19 + slot) * HOUR_MS
            for host in members:
                item = 2 + len(facts)
                facts.append(ItemFacts(hosts[host], [], ["beauty", "tools"][category_of[host]], None, None))
                intervals.append((item, item, start, start + HOUR_MS))
                rooms.setdefault((day, slot), []).append((item, host))
    histories = []
    for user in range(num_users):
        liked = user % 2
        events = []
        for day in range(num_days):
            for slot in range(2):
                choices = [(item, host) for item, host in rooms[day, slot] if category_of[host] == liked]
                item, host = choices[int(rng.integers(len(choices)))]
                at = DAY_START_MS + day * 24 * HOUR_MS + (19 + slot) * HOUR_MS + int(rng.integers(HOUR_MS))
                split = 2 if day == num_days - 1 else 1 if day == num_days - 2 else 0
                events.append((at, host + 2, item, split))
        events.sort()
        histories.append(
            {
                "occurred_at_ms": [at for at, *_ in events],
                "event_type": [EVENT_TYPE_CODES["enter"]] * len(events),
                "streamer_index": [streamer for _, streamer, _, _ in events],
                "product_index": [0] * len(events),
                "watch_time_bucket": [0] * len(events),
                "item_index": [item for *_, item, _ in events],
                "room_item_index": [item for *_, item, _ in events],
                "target": [True] * len(events),
                "split": [split for *_, split in events],
            }
        )
    return _write(path, vocabulary, spec, facts, intervals, histories, filter_seen=False)


def _write(
    path: Path,
    vocabulary: Vocabulary,
    spec: FeatureSpec,
    facts: list[ItemFacts],
    intervals: list[tuple[int, int, int, int]],
    histories: list[dict[str, list]],
    *,
    filter_seen: bool,
) -> Path:
    path.mkdir(parents=True)
    pq.write_table(vocabulary.to_table(), path / "vocabulary.parquet")
    nothing = ItemFacts(None, [], None, None, None)
    inputs = item_inputs([nothing, nothing, *facts], vocabulary=vocabulary, spec=spec)
    is_room = [item.streamer_id is not None for item in facts]
    starts = {item: start for item, _, start, _ in intervals}
    items = range(2 + len(facts))
    pq.write_table(
        pa.table(
            {
                "item_index": pa.array(items, pa.int64()),
                "kind": pa.array([None, None, *("room" if room else "product" for room in is_room)], pa.string()),
                "room_id": pa.array([None, None, *(f"r{row}" if room else None for row, room in enumerate(is_room))]),
                "product_id": pa.array(
                    [None, None, *(None if item.streamer_id else item.product_ids[0] for item in facts)], pa.string()
                ),
                "streamer_id": pa.array([None, None, *(item.streamer_id for item in facts)], pa.string()),
                "category": pa.array([None, None, *(item.category for item in facts)], pa.string()),
                "title": pa.array([None, None, *(item.title for item in facts)], pa.string()),
                "attributes": pa.array([None, None, *(item.attributes for item in facts)], pa.string()),
                "price_cents": pa.nulls(len(items), pa.int64()),
                "start_at_ms": pa.array([starts.get(item) for item in items], pa.int64()),
                "end_at_ms": pa.nulls(len(items), pa.int64()),
                "popularity_index": pa.array(
                    np.where(inputs["streamer"] > 0, inputs["streamer"] + spec.num_products, inputs["product"][:, 0])
                ),
                "streamer": pa.array(inputs["streamer"]),
                "product": pa.array(list(inputs["product"]), pa.list_(pa.int64())),
                "category_index": pa.array(inputs["category"]),
                "title_tokens": pa.array(list(inputs["title"]), pa.list_(pa.int64())),
                "price_band": pa.array(inputs["price_band"]),
                "attribute_indices": pa.array(list(inputs["attributes"]), pa.list_(pa.int64())),
            }
        ),
        path / "items.parquet",
    )
    columns = list(zip(*sorted(intervals, key=lambda row: (row[2], row[0])), strict=True)) or [[], [], [], []]
    names = ("item_index", "room_item_index", "available_from_ms", "available_to_ms")
    pq.write_table(
        pa.table({name: pa.array(column, pa.int64()) for name, column in zip(names, columns, strict=True)}),
        path / "availability.parquet",
    )
    with HistoriesWriter(path / "sequences") as writer:
        for row, history in enumerate(histories):
            columns = {name: np.array(values) for name, values in history.items()}
            lengths = np.array([len(history["split"])])
            writer.append(user_index=np.array([2 + row]), lengths=lengths, columns=columns)
    summary = {
        "users": len(histories),
        "items": len(facts),
        "feature_spec": spec.to_dict(),
        "vocabulary_fingerprint": vocabulary.fingerprint(),
        "ordered": True,
        "knows_availability": bool(intervals),
        "split": {"kind": "by_time" if intervals else "leave_one_out"},
        "filter_seen": filter_seen,
        "source": "world",
    }
    (path / "summary.json").write_text(json.dumps(summary))
    return path
