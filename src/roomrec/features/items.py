"""Facts about a room or a product -> inputs of the item encoder: the one function training and serving both call."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.features.spec import FeatureSpec
from roomrec.features.transforms import price_bands, split_attributes, title_tokens
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import PAD_INDEX

ROOM_LISTING_WINDOW_MS: Final = 60_000
"""A room's bag of products holds what was listed up to this long after its ``room_start``, first listed first.

The bound keeps a room's features the same offline, where the whole evening is known, and online, where it is not.
"""


class ItemFacts(NamedTuple):
    """What is known of an item: a room is known by its streamer, a product by its own id.

    A room has ``streamer_id`` and the products of its listing window; a product has no ``streamer_id`` and itself as
    only entry of ``product_ids``.
    """

    streamer_id: str | None
    product_ids: Sequence[str]
    category: str | None
    title: str | None
    price_cents: int | None
    attributes: str | None = None
    """As the event contract writes them."""


def item_inputs(
    items: Sequence[ItemFacts], *, vocabulary: Vocabulary, spec: FeatureSpec
) -> dict[str, npt.NDArray[np.int64]]:
    """Encode items for the item encoder.

    Args:
        items: Facts of V items.
        vocabulary: The vocabulary the model was trained with.
        spec: The feature spec the model was trained with; a feature it does not have is all PAD.

    Returns:
        One int64 array for each name in ``ITEM_INPUTS``: ``streamer``, ``category``, ``price_band`` of shape ``[V]``,
        ``product`` ``[V, max_products]``, ``title`` ``[V, title_length]``, ``attributes`` ``[V, max_attributes]``,
        bags padded on the right. Attributes past ``max_attributes`` are dropped.

    Example:
        >>> vocabulary = Vocabulary({"streamer": ["mia"], "product": ["silk"], "category": ["scarves"]})
        >>> spec = FeatureSpec(num_users=2, num_streamers=3, num_products=3, num_categories=3, max_products=2)
        >>> inputs = item_inputs([ItemFacts("mia", ["new", "silk"], "scarves", None, None)],
        ...                      vocabulary=vocabulary, spec=spec)
        >>> inputs["streamer"], inputs["product"], inputs["category"]
        (array([2]), array([[1, 2]]), array([2]))
    """
    num_items = len(items)
    product = np.full((num_items, spec.max_products), PAD_INDEX, dtype=np.int64)
    title = np.full((num_items, spec.title_length), PAD_INDEX, dtype=np.int64)
    attributes = np.full((num_items, spec.max_attributes), PAD_INDEX, dtype=np.int64)
    category = np.full(num_items, PAD_INDEX, dtype=np.int64)
    price_band = np.full(num_items, PAD_INDEX, dtype=np.int64)
    for row, facts in enumerate(items):
        bag = vocabulary.encode("product", list(facts.product_ids[: spec.max_products]))
        product[row, : len(bag)] = bag
        if spec.num_title_tokens:
            title[row] = title_tokens(facts.title, title_length=spec.title_length)
        if spec.num_attributes:
            tags = vocabulary.encode("attribute", split_attributes(facts.attributes)[: spec.max_attributes])
            attributes[row, : len(tags)] = tags
    if spec.num_categories:
        category = vocabulary.encode("category", [facts.category for facts in items])
    if spec.num_price_bands:
        cents = [-1 if facts.price_cents is None else facts.price_cents for facts in items]
        price_band = price_bands(np.array(cents, dtype=np.int64))
    return {
        "streamer": vocabulary.encode("streamer", [facts.streamer_id for facts in items]),
        "product": product,
        "category": category,
        "title": title,
        "price_band": price_band,
        "attributes": attributes,
    }
