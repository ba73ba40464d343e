"""Vectors of what is live follow what happens, and equal what the encoder makes of the same facts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roomrec.bundle import Bundle, Registry
from roomrec.features.items import ItemFacts
from serving.deployments.serving_model import ServingModel
from serving.state.live_catalogue import LiveCatalogue
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.sqlite_event_log import SqliteEventLog
from tests.serving.evening import event, listed, opening, start


class Shop:
    """A model that follows a catalogue that follows a log."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.log = SqliteEventLog(folder / "events.sqlite")
        self.store = LmdbStateStore(folder / "state", self.log, history_limit=20, map_bytes=1 << 24)
        self.catalogue = LiveCatalogue(self.store)
        self.model = ServingModel("v1", bundle)
        self.bundle = bundle

    def happens(self, *events: dict[str, Any]) -> frozenset[str]:
        self.log.append([{"received_at_ms": each["occurred_at_ms"]} | each for each in events])
        self.store.catch_up()
        changes = self.catalogue.refresh()
        if changes is None:
            return frozenset()
        self.model.follow(self.catalogue, room_ids=changes.room_ids, product_ids=changes.product_ids)
        return changes.room_ids

    def vector(self, room_id: str) -> np.ndarray:
        return self.model.rooms._matrix[self.model.rooms._row_of[room_id]]


@pytest.fixture
def shop(tmp_path: Path, registry_path: Path) -> Iterator[Shop]:
    registry = Registry(registry_path)
    shop = Shop(tmp_path, Bundle.open(registry.path(registry.versions()[0])))
    yield shop
    shop.store.close()
    shop.log.close()


def test_a_room_is_encoded_as_it_would_have_been_in_training(shop: Shop) -> None:
    shop.happens(*opening())
    facts = ItemFacts("mia", ["silk", "wool"], "scarves", "Scarves tonight", None)
    np.testing.assert_array_equal(shop.vector("scarf-room"), shop.model.encoders.encode_items([facts])[0])


def test_products_of_the_listing_window_change_the_room_and_later_ones_do_not(shop: Shop) -> None:
    shop.happens(start("room", "mia"))
    bare = shop.vector("room").copy()
    shop.happens(listed("room", "silk"))
    with_silk = shop.vector("room").copy()
    assert not np.array_equal(bare, with_silk)
    shop.happens(event("product_listed", ago_ms=1_000, room_id="room", product_id="drill"))
    np.testing.assert_array_equal(shop.vector("room"), with_silk)
    shop.happens(event("product_unlisted", ago_ms=500, room_id="room", product_id="silk"))
    np.testing.assert_array_equal(shop.vector("room"), with_silk)


def test_an_unchanged_room_is_not_encoded_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.happens(*opening())
    monkeypatch.setattr(shop.model.encoders, "encode_items", None)
    assert shop.happens(event("stock_changed", product_id="silk", stock=2)) == {"scarf-room"}
    assert shop.happens(event("product_pinned", room_id="scarf-room", product_id="silk")) == {"scarf-room"}


def test_a_room_that_ends_leaves_the_index(shop: Shop) -> None:
    shop.happens(*opening())
    shop.happens(event("room_end", room_id="tool-room"))
    assert sorted(shop.model.rooms.ids) == ["quiet-room", "scarf-room"]


def test_products_known_from_training_keep_their_vector_whatever_they_cost_today(shop: Shop) -> None:
    shop.happens(*opening(), listed("scarf-room", "new", amount_cents=500))
    shelf = shop.model.shelf(shop.catalogue, "scarf-room")
    by_id = {product_id: shelf._index._matrix[row] for product_id, row in shelf._index._row_of.items()}
    known = shop.bundle.item_vectors["id"].to_pylist().index("silk")
    np.testing.assert_array_equal(by_id["silk"], shop.bundle.item_vector_matrix()[known])
    expected = shop.model.encoders.encode_items([ItemFacts(None, ["new"], None, None, 500)])[0]
    np.testing.assert_array_equal(by_id["new"], expected)


def test_a_shelf_holds_what_can_be_bought(shop: Shop) -> None:
    shop.happens(*opening())
    assert sorted(shop.model.shelf(shop.catalogue, "scarf-room")) == ["silk", "wool"]
    shop.happens(event("stock_changed", product_id="wool", stock=0))
    assert sorted(shop.model.shelf(shop.catalogue, "scarf-room")) == ["silk"]
    assert sorted(shop.model.shelf(shop.catalogue, "quiet-room")) == []
    assert sorted(shop.model.shelf(shop.catalogue, "no-room")) == []


def test_a_stock_shared_by_two_rooms_empties_both_shelves(shop: Shop) -> None:
    shop.happens(*opening(), listed("tool-room", "silk"))
    assert sorted(shop.model.shelf(shop.catalogue, "tool-room")) == ["drill", "silk"]
    shop.happens(event("stock_changed", product_id="silk", stock=0))
    assert sorted(shop.model.shelf(shop.catalogue, "tool-room")) == ["drill"]
    assert sorted(shop.model.shelf(shop.catalogue, "scarf-room")) == ["wool"]


def test_a_shelf_changes_product_by_product(shop: Shop) -> None:
    shop.happens(*opening())
    shelf = shop.model.shelf(shop.catalogue, "scarf-room")
    shop.happens(event("stock_changed", ago_ms=900, product_id="silk", stock=0), listed("scarf-room", "saw"))
    assert shop.model.shelf(shop.catalogue, "scarf-room") is shelf
    assert sorted(shelf) == ["saw", "wool"]
    shop.happens(event("stock_changed", ago_ms=800, product_id="silk", stock=1))
    assert sorted(shelf) == ["saw", "silk", "wool"]


def test_a_shelf_that_could_not_follow_is_filled_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.happens(*opening())
    shop.model.shelf(shop.catalogue, "scarf-room")
    with monkeypatch.context() as broken:
        broken.setattr(shop.model.encoders, "encode_items", None)
        with pytest.raises(TypeError):
            shop.happens(event("stock_changed", product_id="silk", stock=0), listed("scarf-room", "new"))
    assert sorted(shop.model.shelf(shop.catalogue, "scarf-room")) == ["new", "wool"]


def test_the_shelf_of_a_room_that_ended_is_empty(shop: Shop) -> None:
    shop.happens(*opening())
    assert sorted(shop.model.shelf(shop.catalogue, "tool-room")) == ["drill"]
    shop.happens(event("room_end", room_id="tool-room"))
    assert sorted(shop.model.shelf(shop.catalogue, "tool-room")) == []


def test_vectors_of_products_nobody_sells_any_more_are_let_go(shop: Shop) -> None:
    for evening in range(3):
        shop.happens(start(f"room{evening}", "mia"), *(listed(f"room{evening}", f"{evening}-{n}") for n in range(700)))
        shop.happens(event("room_end", room_id=f"room{evening}"))
    assert len(shop.catalogue.products) == 0
    assert len(shop.model._product_vectors) <= 1_000


def test_what_moves_to_another_room_while_nobody_looked_keeps_its_stock(shop: Shop) -> None:
    # several at once: rooms that change together are read in no particular order
    goods = [f"good{number}" for number in range(8)]
    shop.happens(*(start(f"old-{each}", "mia") for each in goods), *(listed(f"old-{each}", each) for each in goods))
    shop.happens(
        *(event("room_end", room_id=f"old-{each}") for each in goods),
        *(start(f"new-{each}", "mia") for each in goods),
        *(listed(f"new-{each}", each, stock=0) for each in goods),
    )
    assert [shop.catalogue.available_products(f"new-{each}") for each in goods] == [[]] * len(goods)
    assert sorted(shop.catalogue.products) == goods


def test_a_copy_of_the_catalogue_keeps_its_rooms_and_knows_of_products_what_is_newest(shop: Shop) -> None:
    shop.happens(*opening())
    copy = shop.catalogue.copy()
    shop.happens(event("room_end", room_id="tool-room"), event("stock_changed", product_id="silk", stock=0))
    shop.happens(event("product_listed", room_id="scarf-room", product_id="new"))
    assert copy.available_products("scarf-room") == ["wool"]
    assert copy.available_products("tool-room") == ["drill"]
    assert copy.rooms["scarf-room"].listings.keys() == {"silk", "wool"}
