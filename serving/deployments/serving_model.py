"""A bundle at work: encoders, and the vectors of everything that is live, kept up to date."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.bundle import Bundle
from roomrec.errors import BundleError
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.items import ItemFacts
from roomrec.features.pieces import Pause, no_pause, python_values
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX
from roomrec.retrieval.availability import RoomRecord, can_be_bought, product_facts, room_facts
from roomrec.retrieval.exact import LiveIndex
from roomrec.retrieval.shelf import Shelf, best_of_each
from serving.deployments.encoders import Encoders
from serving.deployments.viewer_encoder import DEFAULT_CACHE_BYTES
from serving.deployments.viewers import Viewer
from serving.state.live_catalogue import LiveCatalogue
from serving.state.records import PastEvent, UserRecord, user_history

_ENCODED_WHEN_ASKED: Final = 16


class ServingModel:
    """One version of the model, with the vectors of live rooms and of the products listed there.

    Args:
        version: Its name in the registry.
        bundle: The opened bundle.
        cache_bytes: Most bytes remembered of viewers.
        pause: Called between pieces of the work.

    Raises:
        BundleError: If the graphs cannot be loaded, fail on a first input, or give anything but finite vectors of the
            length the manifest promises.
    """

    def __init__(
        self, version: str, bundle: Bundle, *, cache_bytes: int = DEFAULT_CACHE_BYTES, pause: Pause = no_pause
    ) -> None:
        self.version = version
        self.manifest = bundle.manifest
        self.vocabulary: Vocabulary = bundle.vocabulary
        self.encoders = Encoders(bundle, cache_bytes=cache_bytes)
        self._max_products = bundle.spec.max_products
        self._known_row = {name: row for row, name in enumerate(python_values(bundle.item_vectors["id"], pause=pause))}
        self._known_vectors = bundle.item_vector_matrix()
        self._known_category = list(python_values(bundle.item_vectors["category"], pause=pause))
        counts: dict[str, dict[str, float]] = {}
        columns = [python_values(bundle.popularity[name], pause=pause) for name in ("kind", "id", "count")]
        for kind, external_id, number in zip(*columns, strict=True):
            counts.setdefault(kind, {})[external_id] = float(number)
        self.streamer_popularity = counts.get("streamer", {})
        self.product_popularity = counts.get("product", {})
        self.rooms = LiveIndex(embedding_dim=self.encoders.embedding_dim)
        self._seen_rooms: dict[str, RoomRecord] = {}
        self._encoded_rooms: dict[str, tuple[object, ...]] = {}
        self._product_vectors: dict[str, tuple[ItemFacts, npt.NDArray[np.float32]]] = {}
        self._shelves: dict[str, Shelf] = {}
        self._try_out()

    def follow(
        self, catalogue: LiveCatalogue, *, room_ids: Iterable[str], product_ids: Collection[str] | None = None
    ) -> None:
        """Encode rooms that have started or changed, and forget those that have ended.

        Args:
            catalogue: What is live now.
            room_ids: Rooms that may have changed since the last call, by themselves or by one of their products.
            product_ids: Products of which something may have changed; None for any.
        """
        new_rooms: dict[str, tuple[object, ...]] = {}
        new_facts: list[ItemFacts] = []
        products: set[str] = set()
        shelves: dict[str, tuple[Shelf, Collection[str]]] = {}
        for room_id in room_ids:
            # out of sight until it is up to date: should an encoder fail below, the next request fills it anew
            shelf = self._shelves.pop(room_id, None)
            room = catalogue.rooms.get(room_id)
            if room is None:
                self._forget_room(room_id)
                continue
            listed: Collection[str] = room.listings.keys()
            touched = listed if product_ids is None else listed_of(room, product_ids)
            products.update(touched)
            if shelf is not None and product_ids is not None:
                shelves[room_id] = shelf, touched
            if self._seen_rooms.get(room_id) is room:
                continue
            facts = room_facts(room)
            seen = (facts.streamer_id, *facts.product_ids[: self._max_products], None, *facts[2:])
            if self._encoded_rooms.get(room_id) != seen:
                new_rooms[room_id] = seen
                new_facts.append(facts)
            else:
                self._seen_rooms[room_id] = room
        if new_rooms:
            self.rooms.put(list(new_rooms), self.encoders.encode_items(new_facts))
            self._encoded_rooms.update(new_rooms)
            self._seen_rooms.update((room_id, catalogue.rooms[room_id]) for room_id in new_rooms)
        self._encode_products(catalogue, products)
        for room_id, (shelf, touched) in shelves.items():
            self._restock(shelf, catalogue, room_id, touched)
            self._shelves[room_id] = shelf
        if len(self._product_vectors) > 2 * len(catalogue.products) + 1_000:
            for product_id in self._product_vectors.keys() - catalogue.products.keys():
                del self._product_vectors[product_id]

    def drop(self, catalogue: LiveCatalogue, *, room_ids: Iterable[str], product_ids: Collection[str] | None) -> None:
        """Forget rooms that have ended, and take off the shelves what cannot be bought any more; encodes nothing.

        Args:
            catalogue: What is live now.
            room_ids: Rooms that may have changed.
            product_ids: Products of which something may have changed; None for any.
        """
        for room_id in room_ids:
            room = catalogue.rooms.get(room_id)
            if room is None:
                self._forget_room(room_id)
            elif product_ids is None:
                self._shelves.pop(room_id, None)
            elif (shelf := self._shelves.get(room_id)) is not None:
                for product_id in listed_of(room, product_ids):
                    if not can_be_bought(room, catalogue.products, product_id):
                        shelf.remove(product_id)

    def shelf(self, catalogue: LiveCatalogue, room_id: str) -> Shelf:
        """Return the products that can be bought in a room now; filled when first asked for, then kept up to date.

        Where many were listed at once, those without a vector wait until ``follow`` comes to them.
        """
        shelf = self._shelves.get(room_id)
        if shelf is None:
            shelf = Shelf(embedding_dim=self.encoders.embedding_dim, popularity=self.product_popularity)
            if (room := catalogue.rooms.get(room_id)) is not None:
                # asked one by one: `-` between the keys of two dictionaries passes over all of the second
                has_vector = (self._product_vectors, self._known_row)
                bare = {each for each in room.listings if not any(each in known for known in has_vector)}
                if len(bare) <= _ENCODED_WHEN_ASKED:
                    self._encode_products(catalogue, room.listings)
                    bare = set()
                self._restock(shelf, catalogue, room_id, room.listings.keys() - bare)
                self._shelves[room_id] = shelf
        return shelf

    def rank_products(
        self, catalogue: LiveCatalogue, room_ids: Sequence[str], query: npt.NDArray[np.float32], *, k: int
    ) -> list[list[tuple[str, float]]]:
        """Rank the products that can be bought in some rooms now by dot product; the best k of each room."""
        return best_of_each([self.shelf(catalogue, room_id) for room_id in room_ids], query, k=k)

    def encode_viewer(self, viewer: Viewer) -> npt.NDArray[np.float32] | None:
        """Return the vector of a viewer ``[D]``, None for one whose history holds nothing this model knows.

        Raises:
            ValueError: If the vector holds numbers that are not finite.
        """
        return self.encoders.viewers.encode(viewer.user_id, viewer.events)

    def known_category(self, product_id: str) -> str | None:
        """Return a product's category as training knew it."""
        row = self._known_row.get(product_id)
        return None if row is None else self._known_category[row]

    def _forget_room(self, room_id: str) -> None:
        self.rooms.remove(room_id)
        self._encoded_rooms.pop(room_id, None)
        self._seen_rooms.pop(room_id, None)
        self._shelves.pop(room_id, None)

    def _product_vector(self, product_id: str) -> npt.NDArray[np.float32]:
        row = self._known_row.get(product_id)
        return self._product_vectors[product_id][1] if row is None else self._known_vectors[row]

    def _restock(self, shelf: Shelf, catalogue: LiveCatalogue, room_id: str, product_ids: Iterable[str]) -> None:
        """Put on the shelf which of these products can be bought, and take off the others."""
        room = catalogue.rooms[room_id]
        there: list[str] = []
        for product_id in product_ids:
            if can_be_bought(room, catalogue.products, product_id):
                there.append(product_id)
            else:
                shelf.remove(product_id)
        if there:
            vectors = np.stack([self._product_vector(product_id) for product_id in there])
            shelf.put(there, vectors, categories=[self._category(catalogue, each) for each in there])

    def _category(self, catalogue: LiveCatalogue, product_id: str) -> str | None:
        product = catalogue.products.get(product_id)
        if product is not None and product.category is not None:
            return product.category
        return self.known_category(product_id)

    def _encode_products(self, catalogue: LiveCatalogue, product_ids: Iterable[str]) -> None:
        new: list[ItemFacts] = []
        for product_id in product_ids:
            if product_id in self._known_row:
                continue
            product = catalogue.products.get(product_id)
            facts = ItemFacts(None, [product_id], None, None, None) if product is None else product_facts(product)
            known = self._product_vectors.get(product_id)
            if known is None or known[0] != facts:
                new.append(facts)
        if new:
            for facts, vector in zip(new, _finite(self.encoders.encode_items(new)), strict=True):
                self._product_vectors[facts.product_ids[0]] = (facts, vector)

    def _try_out(self) -> None:
        """Run both graphs once: a bundle whose hashes match may still not work."""
        first = {
            name: self.vocabulary.decode(name, FIRST_INDEX) if self.vocabulary.size(name) > FIRST_INDEX else None
            for name in ("streamer", "product")
        }
        seen = PastEvent(0, "probe", 0, EVENT_TYPE_CODES["enter"], first["streamer"], first["product"], None, 1_000)
        history = user_history(UserRecord("probe", [seen]), self.vocabulary)
        probe = ItemFacts(first["streamer"], [first["product"]] if first["product"] else [], None, None, None)
        dim = self.encoders.embedding_dim
        try:
            vectors = [
                self.encoders.encode_user(history, user_id="probe"),
                self.encoders.encode_items([probe])[0],
            ]
        except Exception as error:
            raise BundleError(f"version {self.version} fails on a first input: {error}") from error
        for name, vector in zip(("user", "item"), vectors, strict=True):
            if vector.shape != (dim,):
                raise BundleError(f"version {self.version}: {name}_vector has shape {vector.shape}, expected ({dim},)")
            if not np.isfinite(vector).all():
                raise BundleError(f"version {self.version}: {name}_vector holds numbers that are not finite")


def listed_of(room: RoomRecord, product_ids: Collection[str]) -> set[str]:
    """Return which of these products a room lists or has listed, by a pass over the shorter of both."""
    few, many = room.listings, product_ids
    if len(few) > len(many):
        return {each for each in many if each in few}
    return {each for each in few if each in many}


def _finite(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise ValueError("item vectors hold numbers that are not finite")
    return vectors
