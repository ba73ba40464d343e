"""The products of a room: which of them to show, and how they are shown."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from roomrec.policy.explanation import Reason, ViewerFacts, explain_product
from roomrec.policy.fallback import rank_by_popularity
from roomrec.retrieval.availability import RoomRecord
from serving.deployments.cards import Card, product_card
from serving.deployments.serving_model import ServingModel
from serving.state.live_catalogue import LiveCatalogue


class RoomProducts:
    """Ranks and shows what can be bought in rooms, with a model or without.

    Args:
        catalogue: What is live, refreshed by the caller.
    """

    def __init__(self, catalogue: LiveCatalogue) -> None:
        self._catalogue = catalogue

    def best(
        self,
        rooms: list[RoomRecord],
        model: ServingModel | None,
        vector: npt.NDArray[np.float32] | None,
        *,
        without: frozenset[str],
        k: int,
    ) -> list[list[tuple[str, float]]]:
        """Rank what can be bought in each room.

        Args:
            rooms: Live rooms.
            model: The model, None if there is none.
            vector: The viewer's ``[D]``; None to rank by popularity.
            without: Products the viewer refused.
            k: Most products of each.

        Returns:
            For each room ``(product id, score)``, best first.
        """
        if model is not None and vector is not None:
            room_ids = [room.room_id for room in rooms]
            ranked = model.rank_products(self._catalogue, room_ids, vector, k=k + len(without))
        else:
            ranked = [self._popular(model, room, k=k + len(without)) for room in rooms]
        if not without:
            return ranked
        return [[pair for pair in each if pair[0] not in without][:k] for each in ranked]

    def available(
        self, room_id: str, model: ServingModel | None, *, without: frozenset[str] = frozenset()
    ) -> tuple[Collection[str], Collection[str]]:
        """Return what can be bought in a room, and its categories; without a model by id, passing over all of it."""
        if model is not None:
            shelf = model.shelf(self._catalogue, room_id)
            return shelf.without(without), shelf.categories(without=without)
        available = {each: None for each in self._catalogue.available_products(room_id) if each not in without}
        return available, self.categories(None, available)

    def cards(
        self,
        room: RoomRecord,
        ranked: list[tuple[str, float]],
        model: ServingModel | None,
        viewer: ViewerFacts | None,
    ) -> list[Card]:
        """Show products of a room, with reasons if it is said for whom."""
        products = self._catalogue.products
        on_air = room.pinned_product_id
        cards = []
        for product_id, score in ranked:
            product = products.get(product_id)
            category, stock = (None, None) if product is None else (product.category, product.stock)
            if category is None and model is not None:
                category = model.known_category(product_id)
            reasons: Sequence[Reason] = ()
            if viewer is not None:
                reasons = explain_product(product_id, category, stock, is_on_air=product_id == on_air, viewer=viewer)
            cards.append(product_card(product_id, product, category, score, reasons))
        return cards

    def categories(self, model: ServingModel | None, product_ids: Iterable[str]) -> set[str]:
        """Return the categories of products, as far as anybody knows them."""
        found = {self.category(model, product_id) for product_id in product_ids}
        return {category for category in found if category is not None}

    def category(self, model: ServingModel | None, product_id: str) -> str | None:
        """Return a product's category as the catalogue has it, else as training knew it."""
        product = self._catalogue.products.get(product_id)
        if product is not None and product.category is not None:
            return product.category
        return None if model is None else model.known_category(product_id)

    def _popular(self, model: ServingModel | None, room: RoomRecord, *, k: int) -> list[tuple[str, float]]:
        # what is on air goes first, so the k most popular and that one are all that can be shown
        available, _ = self.available(room.room_id, model)
        ids = list(available)[:k] if model is None else model.shelf(self._catalogue, room.room_id).most_popular(k)
        on_air = room.pinned_product_id
        if on_air is not None and on_air in available and on_air not in ids:
            ids.append(on_air)
        counts = {} if model is None else model.product_popularity
        before = {product_id: counts.get(product_id, 0.0) for product_id in ids}
        return rank_by_popularity(ids, now={} if on_air is None else {on_air: 1.0}, before=before)[:k]
