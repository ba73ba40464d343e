"""Step 3c: which ids get an index, and which features the log knows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.features.spec import FeatureSpec
from roomrec.features.transforms import NUM_PRICE_BANDS, NUM_TITLE_TOKENS, split_attributes
from roomrec.features.vocabulary import NAMESPACES, Vocabulary
from roomrec.ids import FIRST_INDEX
from training.preprocessing.listings import Listings
from training.preprocessing.rooms import Rooms
from training.preprocessing.shuffle import Shuffle


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
        rooms: The rooms, for their categories and attributes.
        listings: The products, for their categories and attributes.
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
    products = [facts for facts in listings.facts.values() if facts.known_from_ms < limit]
    numbers = np.flatnonzero(rooms.from_ms < limit).tolist()
    categories = Counter(facts.category for facts in products)
    categories.update(rooms.categories[number] for number in numbers)
    attributes = Counter(tag for facts in products for tag in split_attributes(facts.attributes))
    attributes.update(tag for number in numbers for tag in split_attributes(rooms.attributes[number]))
    return Vocabulary(
        ids | {"category": _most_frequent_first(categories), "attribute": _most_frequent_first(attributes)}
    )


def _most_frequent_first(counts: Mapping[str | None, int] | Mapping[str, int]) -> pa.Array:
    named = sorted((-count, name) for name, count in counts.items() if name is not None)
    return pa.array([name for _, name in named], pa.string())


def make_spec(
    vocabulary: Vocabulary,
    rooms: Rooms,
    listings: Listings,
    *,
    max_products: int,
    title_length: int,
    max_attributes: int,
) -> FeatureSpec:
    """State the cardinalities; a feature this log does not know has 0."""
    sizes = {name: vocabulary.size(name) for name in NAMESPACES}
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
        num_attributes=sizes["attribute"],
        max_products=max_products if listings.first_products else 1,
        title_length=title_length if has_title else 1,
        max_attributes=max_attributes if sizes["attribute"] else 1,
    )
