"""One request to one slate: state -> encode -> retrieve what is live -> policy."""

import logging
import uuid
from collections.abc import Callable
from itertools import islice
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.policy.explanation import RoomFacts, ViewerFacts, explain_room
from roomrec.retrieval.availability import RoomRecord
from serving.deployments.cards import Card, placed_product_card, room_card
from serving.deployments.popular_orders import PopularOrders
from serving.deployments.popular_rooms import PopularRooms
from serving.deployments.room_products import RoomProducts
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
_FEW = 1_000

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
    popular: PopularRooms
    vector: Vector | None
    at_ms: int
    is_hurried: bool


class Recommender:
    """Answers requests from the live catalogue with whichever model is given; keeps nothing of a request.

    Args:
        catalogue: What is live, refreshed by the caller.
        history_limit: Most events the state remembers of a viewer: with fewer, nothing has been forgotten.
        now_ms: The clock, epoch milliseconds.

    Attributes:
        popular: What is popular, by the counts of each model.
    """

    def __init__(self, catalogue: LiveCatalogue, *, history_limit: int, now_ms: Callable[[], int]) -> None:
        self._catalogue = catalogue
        self._history_limit = history_limit
        self._now_ms = now_ms
        self._products = RoomProducts(catalogue)
        self.popular = PopularOrders(catalogue, now_ms=now_ms)

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
        popular = self.popular.of(model)
        asked = self._asked(query, viewer, model, popular, vector, is_hurried)
        try:
            items, too_few = self._fill(asked)
        except Exception:
            if model is None:
                raise
            _LOG.exception("model %s cannot be run", version)
            degraded = "model_failed"
            asked = self._asked(query, viewer, None, popular, None, is_hurried)  # its counts are as good as before
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

    def _asked(
        self,
        query: Query,
        viewer: Viewer | None,
        model: ServingModel | None,
        popular: PopularRooms,
        vector: Vector | None,
        is_hurried: bool,
    ) -> _Asked:
        facts = ViewerFacts() if viewer is None or is_hurried else self._facts(viewer, model)
        refused = Refusals() if viewer is None else viewer.refused
        return _Asked(query, viewer, refused, facts, model, popular, vector, self._now_ms(), is_hurried)

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
        rooms = [room for room, _ in chosen]
        best = self._products.best(rooms, model, asked.vector, without=without, k=PRODUCTS_PER_ROOM)
        crowded = asked.popular.crowded
        items = []
        for (room, score), products in zip(chosen, best, strict=True):
            available, categories = self._products.available(room.room_id, model, without=without)
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
                    products=self._products.cards(room, products, model, asked.facts),
                )
            )
        return items

    def _room_products(self, asked: _Asked) -> tuple[list[Card], str | None]:
        query = asked.query
        room = None if query.room_id is None else self._catalogue.rooms.get(query.room_id)
        if room is None:
            return [], "room_not_live"
        without = asked.refused.product_ids
        best = self._products.best([room], asked.model, asked.vector, without=without, k=query.k)[0]
        viewer = None if asked.is_hurried else asked.facts
        items = [
            placed_product_card(room, card, position=position)
            for position, card in enumerate(self._products.cards(room, best, asked.model, viewer))
        ]
        if not items and not self._catalogue.available_products(room.room_id):
            return [], "nothing_live"
        return items, "fewer_than_k" if len(items) < query.k else None

    def _popular_feed(self, asked: _Asked, k: int) -> list[tuple[str, float]]:
        """Rank live rooms by popularity, those of the viewer's categories first."""
        popular = asked.popular
        categories = self._categories_of_interest(asked)
        if not categories:
            return list(islice(popular.ranked(), k))
        rooms = self._catalogue.rooms
        some = list(islice(popular.ranked(), max(k, _FEW)))
        ours = [pair for pair in some if rooms[pair[0]].category in categories][:k]
        taken = {room_id for room_id, _ in ours}
        return ours + [pair for pair in some if pair[0] not in taken][: k - len(ours)]

    def _refused_rooms(self, refused: Refusals) -> frozenset[str]:
        """Live rooms a viewer refused, or whose host was refused."""
        rooms = self._catalogue.rooms
        hidden = frozenset(room_id for room_id in refused.room_ids if room_id in rooms)
        if refused.streamer_ids:
            hidden |= self._catalogue.hosted_by(refused.streamer_ids)
        return hidden

    def _facts(self, viewer: Viewer, model: ServingModel | None) -> ViewerFacts:
        return ViewerFacts(
            followed_streamers=viewer.record.follows,
            watched_streamers=viewer.watched_streamers,
            bought_products=viewer.bought_products,
            bought_categories=self._products.categories(model, viewer.bought_products),
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
            if (category := self._products.category(asked.model, product_id)) is not None:
                found[category] = None
                if len(found) == CATEGORIES_OF_INTEREST:
                    break
        return list(found)


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
