"""One request to one slate: state -> encode -> retrieve what is live -> policy."""

import logging
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.policy.explanation import Reason, RoomFacts, ViewerFacts, explain_product, explain_room
from roomrec.policy.fallback import rank_by_popularity
from roomrec.retrieval.availability import RoomRecord
from serving.deployments.cards import Card, placed_product_card, product_card, room_card
from serving.deployments.popular_rooms import PopularRooms
from serving.deployments.serving_model import ServingModel
from serving.deployments.viewers import Viewer
from serving.state.live_catalogue import LiveCatalogue
from serving.state.records import Refusals

DEGRADED: Final = {
    "nothing_live": "no room is live (room_feed), or nothing can be bought in the room (room_products)",
    "room_not_live": "the room asked for is not live",
    "no_model": "there is no champion",
    "model_failed": "the model could not be run",
    "unknown_user": "nothing is known of this viewer",
    "empty_history": "the viewer is known, but did nothing that the model can read",
    "sequence_only": "too much is asked: the model's order, without reasons and without the products of each room",
    "fewer_than_k": "everything that may be shown is, and it is less than was asked for",
}
"""Reason codes of a slate that is not all it could be. Of several the first is given."""

Step = Literal["full", "sequence_only", "popular_in_category", "popular"]
"""How a slate was made, from the best to the last resort: by the model with reasons and products; by the model alone;
what is popular in the categories the viewer looked at; what is popular."""

CHAMPION: Final = "champion"
"""The variant that answers by default."""

PRODUCTS_PER_ROOM: Final = 3
"""Products shown with each room of a feed."""

CATEGORIES_OF_INTEREST: Final = 3
"""Categories that count where a viewer's history has to do without a model, those looked at most."""

_LOG = logging.getLogger(__name__)
_MODELS_REMEMBERED = 4
_FEW = 1_000
_REST_S = 0.02

Surface = Literal["room_feed", "room_products"]
"""Where a slate is shown."""

Vector = npt.NDArray[np.float32]


class Query(NamedTuple):
    """What is asked."""

    user_id: str
    surface: Surface
    k: int
    room_id: str | None = None


class Slate(NamedTuple):
    """What is answered."""

    request_id: str
    model_version: str | None
    variant: str
    degraded: str | None
    """a key of ``DEGRADED``, or None"""
    step: Step
    items: list[Card]


class _Asked(NamedTuple):
    """A request and what is known of it."""

    query: Query
    viewer: Viewer | None
    refused: Refusals
    facts: ViewerFacts
    model: ServingModel | None
    vector: Vector | None
    at_ms: int
    is_hurried: bool


class Recommender:
    """Answers requests from the live catalogue with whichever model is given; keeps nothing of a request.

    Args:
        catalogue: What is live, refreshed by the caller.
        history_limit: Most events the state remembers of a viewer: with fewer, nothing has been forgotten.
        now_ms: The clock, epoch milliseconds.
    """

    def __init__(self, catalogue: LiveCatalogue, *, history_limit: int, now_ms: Callable[[], int]) -> None:
        self._catalogue = catalogue
        self._history_limit = history_limit
        self._now_ms = now_ms
        self._popular: OrderedDict[str | None, PopularRooms] = OrderedDict()

    def recommend(
        self,
        query: Query,
        viewer: Viewer | None,
        model: ServingModel | None,
        *,
        variant: str = CHAMPION,
        is_hurried: bool = False,
    ) -> Slate:
        """Answer a request.

        Args:
            query: What is asked.
            viewer: What the state knows of the viewer.
            model: The model, followed up to the catalogue; None if there is none.
            variant: Which of several models this is.
            is_hurried: Whether to leave out what takes longest: too many wait.

        Returns:
            The slate. Every item in it is live and can be bought as far as the catalogue knows.
        """
        vector, degraded = _encode(viewer, model)
        version = None if model is None else model.version
        asked = self._asked(query, viewer, model, vector, is_hurried)
        try:
            items, too_few = self._fill(asked)
        except Exception:
            if model is None:
                raise
            _LOG.exception("model %s cannot be run", version)
            degraded = "model_failed"
            asked = self._asked(query, viewer, None, None, is_hurried)
            items, too_few = self._fill(asked)
        reasons = {degraded, too_few, "sequence_only" if is_hurried else None}
        return Slate(
            request_id=str(uuid.uuid4()),
            model_version=version,
            variant=variant,
            degraded=next((code for code in DEGRADED if code in reasons), None),
            step=self._step(asked),
            items=items,
        )

    def follow(self, room_ids: Collection[str]) -> None:
        """Take note of rooms that may have started."""
        for popular in self._popular.values():
            popular.start(room_ids)

    async def prepare(self, model: ServingModel) -> None:
        """Put what is popular in order for a model that is about to answer, while requests go on."""
        popular = PopularRooms(self._catalogue, model.streamer_popularity)
        await popular.make_in_pieces(at_ms=self._now_ms(), rest_s=_REST_S)
        self._popular[model.version] = popular

    def keep_only(self, versions: Collection[str]) -> None:
        """Forget what belongs to models that answer no more."""
        for version in [each for each in self._popular if each is not None and each not in versions]:
            del self._popular[version]

    async def keep_in_order(self) -> None:
        """Put what is popular in order where that is due, while requests go on."""
        for popular in list(self._popular.values()):
            if popular.is_due and not popular.is_quick:
                await popular.make_in_pieces(at_ms=self._now_ms())

    def _asked(
        self, query: Query, viewer: Viewer | None, model: ServingModel | None, vector: Vector | None, is_hurried: bool
    ) -> _Asked:
        facts = ViewerFacts() if viewer is None or is_hurried else self._facts(viewer, model)
        refused = Refusals() if viewer is None else viewer.refused
        return _Asked(query, viewer, refused, facts, model, vector, self._now_ms(), is_hurried)

    def _fill(self, asked: _Asked) -> tuple[list[Card], str | None]:
        if asked.query.surface == "room_feed":
            return self._room_feed(asked)
        return self._room_products(asked)

    def _room_feed(self, asked: _Asked) -> tuple[list[Card], str | None]:
        rooms = self._catalogue.rooms
        if not rooms:
            return [], "nothing_live"
        k = asked.query.k
        hidden = self._refused_rooms(asked.refused)
        if asked.model is not None and asked.vector is not None:
            hits = asked.model.rooms.search(asked.vector, k=k + len(hidden))
            ranked = list(zip(hits.ids, hits.scores.tolist(), strict=True))
        else:
            ranked = self._popular_feed(asked, k + len(hidden))
        chosen = [(rooms[each], score) for each, score in ranked if each in rooms and each not in hidden][:k]
        if asked.is_hurried:
            items = [
                room_card(room, score=score, position=position, reasons=(), products=[])
                for position, (room, score) in enumerate(chosen)
            ]
        else:
            items = self._room_cards(asked, chosen)
        return items, "fewer_than_k" if len(items) < k else None

    def _room_cards(self, asked: _Asked, chosen: list[tuple[RoomRecord, float]]) -> list[Card]:
        model, without = asked.model, asked.refused.product_ids
        best = self._best_products(asked, [room for room, _ in chosen], k=PRODUCTS_PER_ROOM)
        crowded = self._popular_rooms(model).crowded
        items = []
        for (room, score), products in zip(chosen, best, strict=True):
            available, categories = self._available(room.room_id, model, without=without)
            facts = RoomFacts(
                streamer_id=room.streamer_id,
                product_ids=available,
                product_categories=categories,
                is_popular_now=room.room_id in crowded,
                age_ms=asked.at_ms - (room.started or (asked.at_ms, ""))[0],
            )
            items.append(
                room_card(
                    room,
                    score=score,
                    position=len(items),
                    reasons=explain_room(facts, asked.facts),
                    products=self._product_cards(asked, room, products),
                )
            )
        return items

    def _room_products(self, asked: _Asked) -> tuple[list[Card], str | None]:
        query = asked.query
        room = None if query.room_id is None else self._catalogue.rooms.get(query.room_id)
        if room is None:
            return [], "room_not_live"
        best = self._best_products(asked, [room], k=query.k)[0]
        items = [
            placed_product_card(room, card, position=position)
            for position, card in enumerate(self._product_cards(asked, room, best))
        ]
        if not items and not self._catalogue.available_products(room.room_id):
            return [], "nothing_live"
        return items, "fewer_than_k" if len(items) < query.k else None

    def _popular_feed(self, asked: _Asked, k: int) -> list[tuple[str, float]]:
        """Rank live rooms by popularity, those of the viewer's categories first."""
        popular = self._popular_rooms(asked.model)
        categories = self._categories_of_interest(asked)
        if not categories:
            return list(islice(popular.ranked(), k))
        rooms = self._catalogue.rooms
        some = list(islice(popular.ranked(), max(k, _FEW)))
        ours = [pair for pair in some if rooms[pair[0]].category in categories][:k]
        taken = {room_id for room_id, _ in ours}
        return ours + [pair for pair in some if pair[0] not in taken][: k - len(ours)]

    def _popular_rooms(self, model: ServingModel | None) -> PopularRooms:
        version = None if model is None else model.version
        popular = self._popular.get(version)
        if popular is None:
            before = {} if model is None else model.streamer_popularity
            popular = self._popular[version] = PopularRooms(self._catalogue, before)
            if len(self._popular) > _MODELS_REMEMBERED:
                self._popular.popitem(last=False)
        if popular.is_due and popular.is_quick:
            popular.make(at_ms=self._now_ms())
        return popular

    def _refused_rooms(self, refused: Refusals) -> frozenset[str]:
        """Live rooms a viewer refused, or whose host was refused."""
        rooms = self._catalogue.rooms
        hidden = frozenset(room_id for room_id in refused.room_ids if room_id in rooms)
        if refused.streamer_ids:
            hidden |= {room_id for room_id, room in rooms.items() if room.streamer_id in refused.streamer_ids}
        return hidden

    def _best_products(self, asked: _Asked, rooms: list[RoomRecord], *, k: int) -> list[list[tuple[str, float]]]:
        without = asked.refused.product_ids
        if asked.model is not None and asked.vector is not None:
            room_ids = [room.room_id for room in rooms]
            ranked = asked.model.rank_products(self._catalogue, room_ids, asked.vector, k=k + len(without))
        else:
            ranked = [self._popular_products(asked.model, room, k=k + len(without)) for room in rooms]
        if not without:
            return ranked
        return [[pair for pair in each if pair[0] not in without][:k] for each in ranked]

    def _popular_products(self, model: ServingModel | None, room: RoomRecord, *, k: int) -> list[tuple[str, float]]:
        # what is on air goes first, so the k most popular and that one are all that can be shown
        available, _ = self._available(room.room_id, model)
        ids = list(available)[:k] if model is None else model.shelf(self._catalogue, room.room_id).most_popular(k)
        on_air = room.pinned_product_id
        if on_air is not None and on_air in available and on_air not in ids:
            ids.append(on_air)
        counts = {} if model is None else model.product_popularity
        before = {product_id: counts.get(product_id, 0.0) for product_id in ids}
        return rank_by_popularity(ids, now={} if on_air is None else {on_air: 1.0}, before=before)[:k]

    def _available(
        self, room_id: str, model: ServingModel | None, *, without: frozenset[str] = frozenset()
    ) -> tuple[Collection[str], Collection[str]]:
        """Return what can be bought in a room, and its categories; without a model by id, passing over all of it."""
        if model is not None:
            shelf = model.shelf(self._catalogue, room_id)
            return shelf.without(without), shelf.categories(without=without)
        available = {each: None for each in self._catalogue.available_products(room_id) if each not in without}
        return available, self._categories(None, available)

    def _product_cards(self, asked: _Asked, room: RoomRecord, ranked: list[tuple[str, float]]) -> list[Card]:
        products, model, viewer = self._catalogue.products, asked.model, asked.facts
        on_air = room.pinned_product_id
        cards = []
        for product_id, score in ranked:
            product = products.get(product_id)
            category, stock = (None, None) if product is None else (product.category, product.stock)
            if category is None and model is not None:
                category = model.known_category(product_id)
            reasons: Sequence[Reason] = ()
            if not asked.is_hurried:
                reasons = explain_product(product_id, category, stock, is_on_air=product_id == on_air, viewer=viewer)
            cards.append(product_card(product_id, product, category, score, reasons))
        return cards

    def _facts(self, viewer: Viewer, model: ServingModel | None) -> ViewerFacts:
        return ViewerFacts(
            followed_streamers=viewer.record.follows,
            watched_streamers=viewer.watched_streamers,
            bought_products=viewer.bought_products,
            bought_categories=self._categories(model, viewer.bought_products),
            seen_products=viewer.seen_products,
            is_known_whole=0 < len(viewer.events) < self._history_limit,
        )

    def _step(self, asked: _Asked) -> Step:
        if asked.vector is not None:
            return "sequence_only" if asked.is_hurried else "full"
        return "popular_in_category" if self._categories_of_interest(asked) else "popular"

    def _categories_of_interest(self, asked: _Asked) -> list[str]:
        """Return the categories of products a viewer looked at, most looked at first, as far as anybody knows them."""
        if asked.viewer is None or asked.query.surface != "room_feed":
            return []
        found: dict[str, None] = {}
        for product_id in asked.viewer.products_by_interest:
            if (category := self._category(asked.model, product_id)) is not None:
                found[category] = None
                if len(found) == CATEGORIES_OF_INTEREST:
                    break
        return list(found)

    def _categories(self, model: ServingModel | None, product_ids: Iterable[str]) -> set[str]:
        found = {self._category(model, product_id) for product_id in product_ids}
        return {category for category in found if category is not None}

    def _category(self, model: ServingModel | None, product_id: str) -> str | None:
        """Return a product's category as the catalogue has it, else as training knew it."""
        product = self._catalogue.products.get(product_id)
        if product is not None and product.category is not None:
            return product.category
        return None if model is None else model.known_category(product_id)


def _encode(viewer: Viewer | None, model: ServingModel | None) -> tuple[Vector | None, str | None]:
    """Return the user vector, or why there is none."""
    if model is None:
        return None, "no_model"
    if viewer is None:
        return None, "unknown_user"
    try:
        vector = model.encode_viewer(viewer)
    except Exception:
        _LOG.exception("model %s cannot encode a viewer", model.version)
        return None, "model_failed"
    return (None, "empty_history") if vector is None else (vector, None)
