"""What the encoders take in: names, shapes and cardinalities, agreed between training and serving."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from roomrec.errors import FeatureError

HISTORY_INPUTS: Final = (
    "event_type",
    "streamer_index",
    "product_index",
    "time_gap_bucket",
    "watch_time_bucket",
    "age_s",
)
"""Inputs of the user encoder, each ``[B, L]`` int64, padded on the left with 0; beside them ``user_index`` ``[B]``."""

INCREMENT_INPUTS: Final = HISTORY_INPUTS[:-1]
"""Inputs of the incremental user encoder, each ``[S]`` int64: the new events of one viewer, as they stand in the whole
history. Beside them ``past_0``, ``past_1`` ... ``[T, D]`` float32, what it returned for the events before as ``new_0``,
``new_1`` ... ``[S, D]``. Ages are missing: they count from the newest event, so each new one would change the old."""

PAST: Final = "past_"
"""Begins the names of what the incremental user encoder is given of earlier events; a number from 0 follows."""

NEW: Final = "new_"
"""Begins the names of what the incremental user encoder returns of new events, in the order of ``PAST``."""

ITEM_INPUTS: Final = ("streamer", "product", "category", "title", "price_band", "attributes")
"""Inputs of the item encoder: ``streamer``, ``category``, ``price_band`` ``[V]``; ``product`` ``[V, max_products]``;
``title`` ``[V, title_length]``; ``attributes`` ``[V, max_attributes]``; all int64, bags padded on the right with 0."""


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Cardinalities of every feature (rows of its embedding table, PAD and OOV included) and lengths of the bags.

    A cardinality of 0 means that the log does not know the feature and no table is made for it.

    Attributes:
        num_users: Rows of the user table.
        num_streamers: Rows of the streamer table.
        num_products: Rows of the product table.
        num_categories: Rows of the category table, shared by rooms and products.
        num_title_tokens: Rows of the hashed title-word table.
        num_price_bands: Rows of the price-band table.
        num_attributes: Rows of the attribute table, shared by rooms and products.
        max_products: Products in a room's bag; a product item uses the first place only.
        title_length: Words in a title's bag.
        max_attributes: Attributes in an item's bag.
    """

    num_users: int
    num_streamers: int
    num_products: int
    num_categories: int = 0
    num_title_tokens: int = 0
    num_price_bands: int = 0
    num_attributes: int = 0
    max_products: int = 8
    title_length: int = 8
    max_attributes: int = 8

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, int) or value < 0:
                raise FeatureError(f"{name} must be a whole number of at least 0, received {value!r}")

    @property
    def has_side_features(self) -> bool:
        """Whether an item is known by more than its ids."""
        return bool(self.num_categories or self.num_title_tokens or self.num_price_bands or self.num_attributes)

    def ids_only(self) -> Self:
        """Return the spec of a model that knows items by their ids alone."""
        return replace(self, num_categories=0, num_title_tokens=0, num_price_bands=0, num_attributes=0)

    def to_dict(self) -> dict[str, int]:
        """Return the fields as a plain dictionary, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Read what ``to_dict`` wrote.

        Raises:
            FeatureError: If a field is missing, unknown or not a whole number of at least 0.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            raise FeatureError(f"feature spec does not fit this version: {error}") from error
