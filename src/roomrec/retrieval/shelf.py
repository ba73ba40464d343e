"""The products that can be bought in one room now: ranked for a viewer, or by popularity, without a loop over them."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.retrieval.exact import Hits, LiveIndex

_SMALL: Final = 64
"""Rows up to which several shelves are faster searched together than one after the other."""


class Shelf(Collection[str]):
    """Product ids with vectors, long-run counts and categories, changed one product at a time.

    A shop without rooms is one room that never ends and may list all it sells, so neither a request nor the sale of a
    last piece may cost a pass over the shelf.

    Args:
        embedding_dim: D, the length of a vector.
        popularity: Long-run counts by product id; none means 0.

    Example:
        >>> shelf = Shelf(embedding_dim=2, popularity={"b": 7.0})
        >>> shelf.put(["a", "b"], np.array([[1, 0], [0, 1]], dtype=np.float32), categories=["cups", None])
        >>> shelf.search(np.array([1, 0], dtype=np.float32), k=1).ids, shelf.most_popular(1)
        (['a'], ['b'])
    """

    def __init__(self, *, embedding_dim: int, popularity: Mapping[str, float]) -> None:
        self._index = LiveIndex(embedding_dim=embedding_dim)
        self._popularity = popularity
        self._by_popularity: list[tuple[float, str]] = []
        self._category: dict[str, str | None] = {}
        self._categories: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index.ids)

    def __contains__(self, product_id: object) -> bool:
        return product_id in self._category

    def categories(self, *, without: Collection[str] = ()) -> Collection[str]:
        """Return the categories of what is here, some products left out."""
        if not without:
            return self._categories.keys()
        left_out = Counter(self._category.get(product_id) for product_id in without)
        return {category for category, count in self._categories.items() if count > left_out[category]}

    def without(self, product_ids: Collection[str]) -> Collection[str]:
        """Return what is here, some products left out; costs nothing where none of them is here."""
        if not any(product_id in self for product_id in product_ids):
            return self
        return self._category.keys() - set(product_ids)

    def put(
        self, product_ids: Sequence[str], vectors: npt.NDArray[np.float32], *, categories: Sequence[str | None]
    ) -> None:
        """Add products, or replace what is known of those already here.

        Args:
            product_ids: n product ids.
            vectors: Their vectors, shape ``[n, D]``.
            categories: Their categories.

        Raises:
            ValueError: If the shape is wrong or a number is not finite; nothing has changed then.
        """
        self._index.put(product_ids, vectors)
        new = []
        for product_id, category in zip(product_ids, categories, strict=True):
            if product_id in self._category:
                self._forget_category(product_id)
            else:
                new.append((-self._popularity.get(product_id, 0.0), product_id))
            self._category[product_id] = category
            if category is not None:
                self._categories[category] += 1
        if len(new) > len(self._by_popularity) // 8:
            self._by_popularity = sorted(self._by_popularity + new)
        else:
            for entry in new:
                insort(self._by_popularity, entry)

    def remove(self, product_id: str) -> bool:
        """Take a product out and say whether it was there."""
        if not self._index.remove(product_id):
            return False
        self._forget_category(product_id)
        place = bisect_left(self._by_popularity, (-self._popularity.get(product_id, 0.0), product_id))
        del self._by_popularity[place]
        return True

    def search(self, query: npt.NDArray[np.float32], *, k: int) -> Hits:
        """Find the products with the highest dot product with ``query`` ``[D]``, best first, equals by id."""
        return self._index.search(query, k=k)

    def most_popular(self, k: int) -> list[str]:
        """Return the products with the highest long-run count, best first, equals by id."""
        return [product_id for _, product_id in self._by_popularity[:k]]

    @property
    def index(self) -> LiveIndex:
        """The vectors of what is here."""
        return self._index

    def _forget_category(self, product_id: str) -> None:
        category = self._category.pop(product_id)
        if category is None:
            return
        self._categories[category] -= 1
        if not self._categories[category]:
            del self._categories[category]


def best_of_each(shelves: Sequence[Shelf], query: npt.NDArray[np.float32], *, k: int) -> list[list[tuple[str, float]]]:
    """Find the best products of each of many shelves, small ones all at once.

    Args:
        shelves: Of one embedding dim.
        query: Shape ``[D]``.
        k: Most products of each.

    Returns:
        For each shelf ``(product id, dot product)``, best first, equals by id.

    Example:
        >>> shelf = Shelf(embedding_dim=1, popularity={})
        >>> shelf.put(["a", "b"], np.array([[1], [2]], dtype=np.float32), categories=[None, None])
        >>> best_of_each([shelf, shelf], np.array([3], dtype=np.float32), k=1)
        [[('b', 6.0)], [('b', 6.0)]]
    """
    indexes = [shelf.index for shelf in shelves]
    sizes = [len(index.rows) for index in indexes]
    together = [index.vectors for index, size in zip(indexes, sizes, strict=True) if size <= _SMALL]
    scores = (np.concatenate(together) @ -query).tolist() if together else []
    found = []
    first = 0
    for index, size in zip(indexes, sizes, strict=True):
        if size <= _SMALL:
            best = sorted(zip(scores[first : first + size], index.rows, strict=True))[:k]
            found.append([(product_id, 0.0 - score) for score, product_id in best])
            first += size
        else:
            hits = index.search(query, k=k)
            found.append(list(zip(hits.ids, hits.scores.tolist(), strict=True)))
    return found
