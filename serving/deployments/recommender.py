"""One request to one slate: state -> encode -> retrieve what is live -> policy."""

import logging
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.policy.explanation import (
    ProductFacts,
    Reason,
    RoomFacts,
    ViewerFacts,
    explain_product,
    explain_room,
)
from roomrec.policy.fallback import popular_now, rank_by_popularity
from serving.deployments.serving_model import ServingModel
from serving.state.live_catalogue import LiveCatalogue
from serving.state.records import Refusals, UserRecord, refusals_of, user_history

DEGRADED: Final = {
    "nothing_live": "no room is live (room_feed), or nothing can be bought in the room (room_products)",
    "room_not_live": "the room asked for is not live",
    "no_model": "there is no champion; what is popular is shown",
    "model_failed": "the model could not be run; what is popular is shown",
    "unknown_user": "nothing is known of this viewer; what is popular is shown",
    "empty_history": "the viewer is known, but did nothing that the model can read; what is popular is shown",
    "fewer_than_k": "everything that may be shown is, and it is less than was asked for",
}
"""Reason codes of a slate that is not all it could be. Of several the first is given."""

CHAMPION: Final = "champion"
"""The variant that answers."""

PRODUCTS_PER_ROOM: Final = 3
"""Products shown with each room of a feed."""

_LOG = logging.getLogger(__name__)
_POPULAR_FOR_MS = 1_000
_WATCHED = frozenset(EVENT_TYPE_CODES[name] for name in ("enter", "watch"))
_SEEN = frozenset(EVENT_TYPE_CODES[name] for name in ("product_click", "add_to_cart"))
_BOUGHT = EVENT_TYPE_CODES["order"]

Surface = Literal["room_feed", "room_products"]
"""Where a slate is shown."""


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
    items: list[dict[str, Any]]


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
        self._popular: frozenset[str] = frozenset()
        self._popular_at_ms = -_POPULAR_FOR_MS

    def recommend(self, query: Query, user: UserRecord | None, model: ServingModel | None) -> Slate:
        """Answer a request.

        Args:
            query: What is asked.
            user: What the state knows of the viewer.
            model: The model, followed up to the catalogue; None if there is none.

        Returns:
            The slate. Every item in it is live and can be bought as far as the catalogue knows.
        """
        vector, degraded = _encode(user, model, query.user_id)
        at_ms = self._now_ms()
        version = None if model is None else model.version
        try:
            items, lacking = self._fill(query, user, model, vector, at_ms)
        except Exception:
            if model is None:
                raise
            _LOG.exception("model %s cannot be run", version)
            degraded = "model_failed"
            items, lacking = self._fill(query, user, None, None, at_ms)
        reasons = {degraded, lacking}
        return Slate(
            request_id=str(uuid.uuid4()),
            model_version=version,
            variant=CHAMPION,
            degraded=next((code for code in DEGRADED if code in reasons), None),
            items=items,
        )

    def _fill(
        self,
        query: Query,
        user: UserRecord | None,
        model: ServingModel | None,
        vector: npt.NDArray[np.float32] | None,
        at_ms: int,
    ) -> tuple[list[dict[str, Any]], str | None]:
        if query.surface == "room_feed":
            return self._room_feed(query, user, model, vector, at_ms)
        return self._room_products(query, user, model, vector)

    def _room_feed(
        self,
        query: Query,
        user: UserRecord | None,
        model: ServingModel | None,
        vector: npt.NDArray[np.float32] | None,
        at_ms: int,
    ) -> tuple[list[dict[str, Any]], str | None]:
        catalogue = self._catalogue
        if not catalogue.rooms:
            return [], "nothing_live"
        refused = refusals_of(user)
        hidden = self._refused_rooms(refused)
        if model is not None and vector is not None:
            hits = model.rooms.search(vector, k=query.k + len(hidden))
            ranked = [(room_id, float(score)) for room_id, score in zip(hits.ids, hits.scores, strict=True)]
        else:
            before = {
                room_id: _popularity(model, "streamer", room.streamer_id) for room_id, room in catalogue.rooms.items()
            }
            now = catalogue.enters(at_ms=at_ms)
            ranked = rank_by_popularity(list(catalogue.rooms), now=now, before=before)[: query.k + len(hidden)]
        ranked = [pair for pair in ranked if pair[0] not in hidden][: query.k]
        viewer = self._viewer_facts(user, model)
        popular = self._popular_rooms(at_ms)
        items: list[dict[str, Any]] = []
        for room_id, score in ranked:
            room = catalogue.rooms.get(room_id)
            if room is None or room.started is None:
                continue
            available, categories = self._available(room_id, model, without=refused.product_ids)
            facts = RoomFacts(
                streamer_id=room.streamer_id,
                product_ids=available,
                product_categories=categories,
                is_popular_now=room_id in popular,
                age_ms=at_ms - room.started[0],
            )
            best = self._best_products(room_id, model, vector, k=PRODUCTS_PER_ROOM, without=refused.product_ids)
            items.append(
                {
                    "room_id": room_id,
                    "streamer_id": room.streamer_id,
                    "category": room.category,
                    "title": room.title,
                    "score": score,
                    "position": len(items),
                    "propensity": 1.0,
                    "reasons": _as_json(explain_room(facts, viewer)),
                    "products": [self._product(room_id, *pair, viewer, model) for pair in best],
                }
            )
        return items, "fewer_than_k" if len(items) < query.k else None

    def _room_products(
        self, query: Query, user: UserRecord | None, model: ServingModel | None, vector: npt.NDArray[np.float32] | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        room = None if query.room_id is None else self._catalogue.rooms.get(query.room_id)
        if room is None:
            return [], "room_not_live"
        viewer = self._viewer_facts(user, model)
        best = self._best_products(room.room_id, model, vector, k=query.k, without=refusals_of(user).product_ids)
        items = []
        for position, (product_id, score) in enumerate(best):
            product = self._product(room.room_id, product_id, score, viewer, model)
            items.append(
                {"room_id": room.room_id, "streamer_id": room.streamer_id}
                | product
                | {"position": position, "propensity": 1.0, "products": []}
            )
        if not items and not self._catalogue.available_products(room.room_id):
            return [], "nothing_live"
        return items, "fewer_than_k" if len(items) < query.k else None

    def _refused_rooms(self, refused: Refusals) -> frozenset[str]:
        """Live rooms a viewer refused, or whose host was refused."""
        rooms = self._catalogue.rooms
        hidden = refused.room_ids & rooms.keys()
        if refused.streamer_ids:
            hidden |= {room_id for room_id, room in rooms.items() if room.streamer_id in refused.streamer_ids}
        return hidden

    def _best_products(
        self,
        room_id: str,
        model: ServingModel | None,
        vector: npt.NDArray[np.float32] | None,
        *,
        k: int,
        without: frozenset[str],
    ) -> list[tuple[str, float]]:
        ranked = self._rank_products(room_id, model, vector, k=k + len(without))
        return [pair for pair in ranked if pair[0] not in without][:k]

    def _rank_products(
        self, room_id: str, model: ServingModel | None, vector: npt.NDArray[np.float32] | None, *, k: int
    ) -> list[tuple[str, float]]:
        if model is not None and vector is not None:
            hits = model.rank_products(self._catalogue, room_id, vector, k=k)
            return [(product_id, float(score)) for product_id, score in zip(hits.ids, hits.scores, strict=True)]
        # what is on air goes first, so the k most popular and that one are all that can be shown
        available, _ = self._available(room_id, model)
        ids = list(available)[:k] if model is None else model.shelf(self._catalogue, room_id).most_popular(k)
        on_air = self._catalogue.rooms[room_id].pinned_product_id
        if on_air is not None and on_air in available and on_air not in ids:
            ids.append(on_air)
        before = {product_id: _popularity(model, "product", product_id) for product_id in ids}
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

    def _product(
        self, room_id: str, product_id: str, score: float, viewer: ViewerFacts, model: ServingModel | None
    ) -> dict[str, Any]:
        product = self._catalogue.products.get(product_id)
        category = self._category(model, product_id)
        facts = ProductFacts(
            product_id=product_id,
            category=category,
            stock=None if product is None else product.stock,
            is_on_air=self._catalogue.rooms[room_id].pinned_product_id == product_id,
        )
        return {
            "product_id": product_id,
            "category": category,
            "title": None if product is None else product.title,
            "price_cents": None if product is None else product.price_cents,
            "stock": facts.stock,
            "score": score,
            "reasons": _as_json(explain_product(facts, viewer)),
        }

    def _viewer_facts(self, user: UserRecord | None, model: ServingModel | None) -> ViewerFacts:
        if user is None:
            return ViewerFacts()
        bought = {event.product_id for event in user.events if event.event_type == _BOUGHT and event.product_id}
        return ViewerFacts(
            followed_streamers=user.follows,
            watched_streamers={
                event.streamer_id for event in user.events if event.event_type in _WATCHED and event.streamer_id
            },
            bought_products=bought,
            bought_categories=self._categories(model, bought),
            seen_products={event.product_id for event in user.events if event.event_type in _SEEN and event.product_id},
            is_known_whole=0 < len(user.events) < self._history_limit,
        )

    def _categories(self, model: ServingModel | None, product_ids: Iterable[str]) -> set[str]:
        found = {self._category(model, product_id) for product_id in product_ids}
        return {category for category in found if category is not None}

    def _category(self, model: ServingModel | None, product_id: str) -> str | None:
        if model is not None:
            return model.product_category(self._catalogue, product_id)
        product = self._catalogue.products.get(product_id)
        return None if product is None else product.category

    def _popular_rooms(self, at_ms: int) -> frozenset[str]:
        if not 0 <= at_ms - self._popular_at_ms < _POPULAR_FOR_MS:
            self._popular = popular_now(self._catalogue.enters(at_ms=at_ms))
            self._popular_at_ms = at_ms
        return self._popular


def _encode(
    user: UserRecord | None, model: ServingModel | None, user_id: str
) -> tuple[npt.NDArray[np.float32] | None, str | None]:
    """Return the user vector, or why there is none."""
    if model is None:
        return None, "no_model"
    if user is None:
        return None, "unknown_user"
    history = user_history(user, model.vocabulary)
    if not model.can_read(history):
        return None, "empty_history"
    try:
        vector = model.encoders.encode_user(history, user_id=user_id)
    except Exception:
        _LOG.exception("model %s cannot encode a viewer", model.version)
        return None, "model_failed"
    if not np.isfinite(vector).all():
        return None, "model_failed"
    return vector, None


def _popularity(model: ServingModel | None, kind: str, external_id: str | None) -> float:
    return 0.0 if model is None or external_id is None else model.popularity.get((kind, external_id), 0.0)


def _as_json(reasons: list[Reason]) -> list[dict[str, str]]:
    return [{"code": reason.code, "text": reason.text} for reason in reasons]
