"""Why an item is shown, in words a viewer understands, each given only if it is true."""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, TypedDict

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


class Reason(TypedDict):
    """A reason as a code for machines and a sentence for viewers; shared, and not to be changed."""

    code: str
    text: str


_ROOM_REASONS: Final = {code: Reason(code=code, text=text) for code, text in ROOM_SENTENCES.items()}
_PRODUCT_REASONS: Final = {code: Reason(code=code, text=text) for code, text in PRODUCT_SENTENCES.items()}
_LIVE_NOW: Final = (_ROOM_REASONS["live_now"],)
_ON_SALE_NOW: Final = (_PRODUCT_REASONS["on_sale_now"],)


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


def explain_room(room: RoomFacts, viewer: ViewerFacts) -> Sequence[Reason]:
    """Return why a room may interest a viewer, the strongest reasons first, at most ``MAX_REASONS``.

    Example:
        >>> room = RoomFacts("mia", ["silk"], ["scarves"], is_popular_now=False, age_ms=5_000_000)
        >>> [reason["code"] for reason in explain_room(room, ViewerFacts({"mia"}, {"mia"}, {"wool"}, {"scarves"}))]
        ['follows_host', 'watched_before', 'like_what_you_bought']
    """
    codes = []
    follows = room.streamer_id in viewer.followed_streamers
    watched = room.streamer_id in viewer.watched_streamers
    if follows:
        codes.append("follows_host")
    if watched:
        codes.append("watched_before")
    # a viewer has bought far less than a room can sell
    if viewer.bought_products and any(product in room.product_ids for product in viewer.bought_products):
        codes.append("sells_what_you_bought")
    elif viewer.bought_categories and any(each in room.product_categories for each in viewer.bought_categories):
        codes.append("like_what_you_bought")
    if room.is_popular_now:
        codes.append("popular_now")
    if 0 <= room.age_ms < JUST_STARTED_MS:
        codes.append("just_started")
    if viewer.is_known_whole and not follows and not watched:
        codes.append("new_host")
    return [_ROOM_REASONS[code] for code in codes[:MAX_REASONS]] if codes else _LIVE_NOW


def explain_product(
    product_id: str, category: str | None, stock: int | None, *, is_on_air: bool, viewer: ViewerFacts
) -> Sequence[Reason]:
    """Return why a product may interest a viewer, the strongest reasons first, at most ``MAX_REASONS``.

    Args:
        product_id: The product.
        category: Its category, None if nobody knows.
        stock: Pieces left, None if nobody ever said.
        is_on_air: Whether it is being shown.
        viewer: What reasons may refer to.

    Example:
        >>> viewer = ViewerFacts(seen_products={"silk"})
        >>> [reason["code"] for reason in explain_product("silk", "scarves", 2, is_on_air=True, viewer=viewer)]
        ['on_air', 'looked_at_before', 'few_left']
    """
    codes = []
    if is_on_air:
        codes.append("on_air")
    if product_id in viewer.bought_products:
        codes.append("bought_before")
    else:
        if product_id in viewer.seen_products:
            codes.append("looked_at_before")
        if category in viewer.bought_categories:
            codes.append("like_what_you_bought")
    if stock is not None and 0 < stock <= FEW_LEFT:
        codes.append("few_left")
    return [_PRODUCT_REASONS[code] for code in codes[:MAX_REASONS]] if codes else _ON_SALE_NOW
