import random

import numpy as np
import pytest

from roomrec.retrieval.shelf import Shelf

POPULARITY = {"silk": 5.0, "saw": 9.0, "drill": 5.0}
VECTORS = {"silk": [1, 0], "wool": [2, 0], "drill": [0, 1], "saw": [0, 3]}
CATEGORY = {"silk": "scarves", "wool": "scarves", "drill": "tools", "saw": None}


def shelf_of(*product_ids):
    shelf = Shelf(embedding_dim=2, popularity=POPULARITY)
    put(shelf, *product_ids)
    return shelf


def put(shelf, *product_ids):
    vectors = np.array([VECTORS[each] for each in product_ids], dtype=np.float32).reshape(-1, 2)
    shelf.put(product_ids, vectors, categories=[CATEGORY[each] for each in product_ids])


def scarf_lover(shelf, k):
    return shelf.search(np.array([1, 0], dtype=np.float32), k=k).ids


def test_best_first_for_a_viewer_and_by_popularity():
    shelf = shelf_of("silk", "wool", "drill", "saw")
    assert scarf_lover(shelf, 2) == ["wool", "silk"]
    assert shelf.most_popular(3) == ["saw", "drill", "silk"]
    assert shelf.most_popular(9) == ["saw", "drill", "silk", "wool"]
    assert (len(shelf), sorted(shelf), "saw" in shelf) == (4, ["drill", "saw", "silk", "wool"], True)


def test_what_is_taken_off_is_gone_everywhere():
    shelf = shelf_of("silk", "wool", "drill", "saw")
    assert [shelf.remove("wool"), shelf.remove("wool"), shelf.remove("saw")] == [True, False, True]
    assert scarf_lover(shelf, 9) == ["silk", "drill"]
    assert shelf.most_popular(9) == ["drill", "silk"]
    assert sorted(shelf) == ["drill", "silk"]
    assert "saw" not in shelf


def test_categories_are_those_of_what_is_here():
    shelf = shelf_of("silk", "wool", "drill", "saw")
    assert shelf.categories() == {"scarves", "tools"}
    assert shelf.categories(without={"drill", "silk", "saw", "unheard-of"}) == {"scarves"}
    shelf.remove("drill")
    assert shelf.categories() == {"scarves"}


def test_some_products_left_out():
    shelf = shelf_of("silk", "wool")
    assert sorted(shelf.without({"silk", "saw"})) == ["wool"]
    assert shelf.without({"saw"}) is shelf


def test_putting_a_product_again_replaces_it():
    shelf = shelf_of("silk", "wool")
    shelf.put(["silk"], np.array([[9, 0]], dtype=np.float32), categories=["sale"])
    assert scarf_lover(shelf, 2) == ["silk", "wool"]
    assert shelf.most_popular(9) == ["silk", "wool"]
    assert shelf.categories() == {"scarves", "sale"}


def test_a_vector_that_is_not_finite_changes_nothing():
    shelf = shelf_of("silk")
    with pytest.raises(ValueError, match="not finite"):
        shelf.put(["wool"], np.array([[np.nan, 0]], dtype=np.float32), categories=[None])
    assert sorted(shelf) == ["silk"]
    assert shelf.most_popular(9) == ["silk"]


def test_one_by_one_is_all_at_once():
    rng = random.Random(4)
    names = [f"p{number:02d}" for number in range(60)]
    popularity = {name: float(rng.randrange(4)) for name in names}
    shelf = Shelf(embedding_dim=1, popularity=popularity)
    there = set()
    for _ in range(500):
        name = rng.choice(names)
        if rng.random() < 0.5:
            shelf.put([name], np.ones((1, 1), dtype=np.float32), categories=[None])
            there.add(name)
        else:
            assert shelf.remove(name) == (name in there)
            there.discard(name)
    fresh = Shelf(embedding_dim=1, popularity=popularity)
    fresh.put(sorted(there), np.ones((len(there), 1), dtype=np.float32), categories=[None] * len(there))
    assert shelf.most_popular(99) == fresh.most_popular(99)
    assert sorted(shelf) == sorted(fresh) == sorted(there)
