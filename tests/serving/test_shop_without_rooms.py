"""A shop that has no rooms: one room that never ends lists all it sells, and viewers are shown its products."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from roomrec.bundle import Registry
from roomrec.features.vocabulary import Vocabulary
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.bundles import write_tiny_bundle
from tests.serving.conftest import TestClient
from tests.serving.evening import event, listed, start
from tests.serving.shop import NOW_MS

PRODUCTS = [f"p{number:04d}" for number in range(2_500)]
POPULAR = {"p0007": 70, "p0100": 60, "p2222": 50}
LOOKED_AT = {"ann": ["p0010", "p0011"], "bob": ["p1500"], "eve": ["p0011", "p2400", "p0300"]}
A_YEAR_MS = 365 * 86_400_000


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("shop")
    registry = Registry(folder / "registry")
    popularity = [("product", product_id, count) for product_id, count in POPULAR.items()]
    vocabulary = Vocabulary({"product": PRODUCTS})
    registry.promote(
        registry.publish(write_tiny_bundle(folder / "bundle", vocabulary, popularity=popularity, embedding_dim=128))
    )
    return registry


@pytest.fixture(scope="module")
def endpoint(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    settings = Settings(registry=str(registry.root), data=str(tmp_path_factory.mktemp("data")), history_limit=50)
    return Endpoint.open(settings, now_ms=lambda: NOW_MS)


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> Iterator[TestClient]:
    with TestClient(create_api(endpoint)) as client:
        post(client, start("shop", "shop"))
        for first in range(0, len(PRODUCTS), 1_000):
            post(client, *(listed("shop", product_id) for product_id in PRODUCTS[first : first + 1_000]))
        for user_id, product_ids in LOOKED_AT.items():
            # the log of a shop says nothing of rooms or hosts
            post(
                client, *(event("product_click", ago_ms=A_YEAR_MS, user_id=user_id, product_id=p) for p in product_ids)
            )
        yield client


def post(client: TestClient, *events: dict[str, Any]) -> None:
    answer = client.post("/v1/events", content=json.dumps(events)).json()
    assert answer["accepted"] == len(events), answer


def ask(client: TestClient, user_id: str, *, k: int = 10) -> dict[str, Any]:
    asked = {"user_id": user_id, "surface": "room_products", "room_id": "shop", "k": k}
    answer = client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(client: TestClient, user_id: str, *, k: int = 10) -> list[str]:
    return [item["product_id"] for item in ask(client, user_id, k=k)["items"]]


def test_a_viewer_sees_what_the_model_ranks_first_over_all_products(client: TestClient, registry: Registry) -> None:
    bundle = registry.open(registry.channel("champion"))
    vectors = dict(zip(PRODUCTS, bundle.item_vector_matrix(), strict=True))
    for user_id, product_ids in LOOKED_AT.items():
        viewer = np.mean([vectors[product_id] for product_id in product_ids], axis=0)  # as the tiny model has it
        best = sorted(PRODUCTS, key=lambda product_id: -float(vectors[product_id] @ viewer))[:10]
        answer = ask(client, user_id)
        assert [item["product_id"] for item in answer["items"]] == best
        assert best[0] in product_ids
        assert answer["degraded"] is None
        assert {item["room_id"] for item in answer["items"]} == {"shop"}
    assert len({tuple(shown(client, user_id)) for user_id in LOOKED_AT}) == 3


def test_an_unknown_viewer_sees_what_sells(client: TestClient) -> None:
    answer = ask(client, "stranger", k=5)
    assert [item["product_id"] for item in answer["items"]] == ["p0007", "p0100", "p2222", "p0000", "p0001"]
    assert answer["degraded"] == "unknown_user"


def test_every_product_can_be_shown(client: TestClient, endpoint: Endpoint) -> None:
    shelf = endpoint.model.shelf(endpoint.catalogue, "shop")
    assert sorted(shelf) == PRODUCTS
    assert len(shown(client, "ann", k=200)) == 200


@pytest.mark.parametrize("user_id", ["ann", "stranger"])
def test_what_is_sold_out_or_unlisted_goes_at_once_and_may_come_back(client: TestClient, user_id: str) -> None:
    first, second, third = shown(client, user_id, k=3)
    post(client, event("stock_changed", ago_ms=900, product_id=first, stock=0))
    post(client, event("product_unlisted", ago_ms=900, room_id="shop", product_id=second))
    assert shown(client, user_id, k=1) == [third]
    post(client, event("stock_changed", ago_ms=800, product_id=first, stock=4))
    post(client, event("product_listed", ago_ms=800, room_id="shop", product_id=second))
    assert shown(client, user_id, k=3) == [first, second, third]


def test_what_is_on_air_comes_first_for_a_stranger(client: TestClient) -> None:
    post(client, event("product_pinned", ago_ms=700, room_id="shop", product_id="p2001"))
    assert shown(client, "stranger", k=3) == ["p2001", "p0007", "p0100"]
    post(client, event("stock_changed", ago_ms=600, product_id="p2001", stock=0))
    assert shown(client, "stranger", k=2) == ["p0007", "p0100"]
    post(client, event("stock_changed", ago_ms=500, product_id="p2001", stock=1))


def test_a_product_that_training_never_saw_is_shown_last_not_lost(client: TestClient, endpoint: Endpoint) -> None:
    post(client, event("product_listed", ago_ms=400, room_id="shop", product_id="unheard-of"))
    assert "unheard-of" in endpoint.model.shelf(endpoint.catalogue, "shop")
    post(client, event("product_unlisted", ago_ms=300, room_id="shop", product_id="unheard-of"))


def test_the_feed_shows_the_shop_as_a_room(client: TestClient) -> None:
    answer = client.post("/v1/recommendations", json={"user_id": "ann", "surface": "room_feed", "k": 3}).json()
    assert [item["room_id"] for item in answer["items"]] == ["shop"]
    assert [product["product_id"] for product in answer["items"][0]["products"]] == shown(client, "ann", k=3)


def test_neither_a_request_nor_a_sale_passes_over_all_products(
    client: TestClient, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown(client, "ann", k=1)
    asked_of = []
    put = endpoint.model._restock

    def restock(shelf: Any, catalogue: Any, room_id: str, product_ids: Any) -> None:
        asked_of.append(sorted(product_ids))
        put(shelf, catalogue, room_id, product_ids)

    monkeypatch.setattr(endpoint.model, "_restock", restock)
    monkeypatch.setattr(endpoint.catalogue, "available_products", None)
    monkeypatch.setattr(endpoint._store._tables, "_listings", None)
    monkeypatch.setattr(endpoint._store._tables, "catalogue", None)
    for user_id in ("ann", "stranger"):
        assert len(shown(client, user_id)) == 10
    post(client, event("stock_changed", product_id="p1234", stock=7))
    post(client, event("enter", user_id="ann", room_id="shop", streamer_id="shop"))
    post(client, event("order", user_id="ann", product_id="p1234"))
    post(client, event("product_unlisted", room_id="shop", product_id="p77"))
    for user_id in ("ann", "stranger"):
        assert len(shown(client, user_id)) == 10
    assert asked_of == [["p1234"], ["p77"]]
