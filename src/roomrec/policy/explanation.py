"""Why an item is shown, in words a viewer understands, each given only if it is true."""

from collections.abc import Collection
from typing import Final, NamedTuple

MAX_REASONS: Final = 3
"""More than this nobody reads."""

FEW_LEFT: Final = 5
"""Up to this many pieces are "only a few left"."""

ROOM_SENTENCES: Final = {
    "follows_host": "You follow this host",
    "watched_before": "You watched this host before",
    "sells_what_you_bought": "Sells something you bought before",
    "like_what_you_bought": "Sells things like what you bought",
    "popular_now": "Popular right now",
    "just_started": "Just started",
    "new_host": "A host you have not seen yet",
    "live_now": "Live now",
}
"""Reasons to show a room, the strongest first. The last is true of every room shown and given only alone."""

PRODUCT_SENTENCES: Final = {
    "on_air": "Being shown in the room right now",
    "bought_before": "You bought this before",
    "looked_at_before": "You looked at this before",
    "like_what_you_bought": "Like what you bought",
    "few_left": "Only a few left",
    "on_sale_now": "On sale in this room now",
}
"""Reasons to show a product, the strongest first. The last is true of every product shown and given only alone."""

JUST_STARTED_MS: Final = 600_000
"""A room has just started for its first ten minutes."""


class Reason(NamedTuple):
    """A reason as a code for machines and a sentence for viewers."""

    code: str
    text: str


class ViewerFacts(NamedTuple):
    """What reasons may refer to: what this viewer did, as far as the state remembers."""

    followed_streamers: Collection[str] = frozenset()
    watched_streamers: Collection[str] = frozenset()
    """hosts whose rooms the viewer entered or watched"""
    bought_products: Collection[str] = frozenset()
    bought_categories: Collection[str] = frozenset()
    seen_products: Collection[str] = frozenset()
    """products clicked or put in the cart"""
    is_known_whole: bool = False
    """something is known, and nothing has been forgotten: only then may one say what the viewer never saw"""


class RoomFacts(NamedTuple):
    """What reasons may say about a room."""

    streamer_id: str | None
    product_ids: Collection[str]
    """available now"""
    product_categories: Collection[str]
    """categories of the products available now"""
    is_popular_now: bool
    age_ms: int
    """since it started"""


class ProductFacts(NamedTuple):
    """What reasons may say about a product."""

    product_id: str
    category: str | None
    stock: int | None
    is_on_air: bool


def explain_room(room: RoomFacts, viewer: ViewerFacts) -> list[Reason]:
    """Return why a room may interest a viewer, the strongest reasons first, at most ``MAX_REASONS``.

    Example:
        >>> room = RoomFacts("mia", ["silk"], ["scarves"], is_popular_now=False, age_ms=5_000_000)
        >>> [reason.code for reason in explain_room(room, ViewerFacts({"mia"}, {"mia"}, {"wool"}, {"scarves"}))]
        ['follows_host', 'watched_before', 'like_what_you_bought']
    """
    # a viewer has bought far less than a room can sell
    sells_bought = any(product in room.product_ids for product in viewer.bought_products)
    follows = room.streamer_id in viewer.followed_streamers
    watched = room.streamer_id in viewer.watched_streamers
    true = {
        "follows_host": follows,
        "watched_before": watched,
        "sells_what_you_bought": sells_bought,
        "like_what_you_bought": not sells_bought
        and any(category in room.product_categories for category in viewer.bought_categories),
        "popular_now": room.is_popular_now,
        "just_started": 0 <= room.age_ms < JUST_STARTED_MS,
        "new_host": viewer.is_known_whole and not follows and not watched,
    }
    return _told(true, ROOM_SENTENCES, otherwise="live_now")


def explain_product(product: ProductFacts, viewer: ViewerFacts) -> list[Reason]:
    """Return why a product may interest a viewer, the strongest reasons first, at most ``MAX_REASONS``.

    Example:
        >>> product = ProductFacts("silk", "scarves", stock=2, is_on_air=True)
        >>> [reason.code for reason in explain_product(product, ViewerFacts(seen_products={"silk"}))]
        ['on_air', 'looked_at_before', 'few_left']
    """
    bought = product.product_id in viewer.bought_products
    true = {
        "on_air": product.is_on_air,
        "bought_before": bought,
        "looked_at_before": not bought and product.product_id in viewer.seen_products,
        "like_what_you_bought": not bought and product.category in viewer.bought_categories,
        "few_left": product.stock is not None and 0 < product.stock <= FEW_LEFT,
    }
    return _told(true, PRODUCT_SENTENCES, otherwise="on_sale_now")


def _told(true: dict[str, bool], sentences: dict[str, str], *, otherwise: str) -> list[Reason]:
    codes = [code for code in sentences if true.get(code)] or [otherwise]
    return [Reason(code, sentences[code]) for code in codes[:MAX_REASONS]]
