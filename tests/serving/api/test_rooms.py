"""Live rooms over HTTP: who streams, what goes on, what is sold there."""

from pathlib import Path

import pytest

from serving.settings import Settings
from serving.state.slate_log import read_slates, slate_files
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, opening, start
from tests.serving.shop import NOW_MS


@pytest.fixture(autouse=True)
def evening(client: TestClient) -> None:
    client.post("/v1/events", json=opening())


def test_what_goes_on_in_a_room(client: TestClient) -> None:
    events = [
        enter("u1", "scarf-room", "mia", ago_ms=40_000),
        enter("u2", "scarf-room", "mia", ago_ms=20_000),
        event("comment", ago_ms=10_000, user_id="u2", room_id="scarf-room", streamer_id="mia"),
        event("comment", ago_ms=9_000, user_id="u1", room_id="scarf-room", streamer_id="mia"),
        event("order", ago_ms=2_000, user_id="u1", room_id="scarf-room", product_id="silk"),
        event("product_pinned", room_id="scarf-room", product_id="wool"),
        event("stock_changed", product_id="wool", stock=0),
    ]
    client.post("/v1/events", json=events)
    assert client.get("/v1/rooms/scarf-room").json() == {
        "room_id": "scarf-room",
        "streamer_id": "mia",
        "category": "scarves",
        "title": "Scarves tonight",
        "started_at_ms": NOW_MS - 3_600_000,
        "on_air_product_id": "wool",
        "num_products": 1,
        "moment": {"window_s": 30, "enters": 1, "comments": 2, "orders": 1},
        "products": [{"product_id": "silk", "category": "scarves", "title": "Silk", "price_cents": 1_990, "stock": 10}],
    }


def test_rooms_are_listed_by_id_and_in_pages(client: TestClient) -> None:
    found = client.get("/v1/rooms").json()
    assert (found["total"], found["offset"]) == (3, 0)
    assert [room["room_id"] for room in found["rooms"]] == ["quiet-room", "scarf-room", "tool-room"]
    assert [room["num_products"] for room in found["rooms"]] == [0, 2, 1]
    page = client.get("/v1/rooms", params={"limit": 1, "offset": 2}).json()
    assert [room["room_id"] for room in page["rooms"]] == ["tool-room"]
    assert client.get("/v1/rooms", params={"offset": 3}).json()["rooms"] == []
    assert len(client.get("/v1/rooms/scarf-room", params={"limit": 1}).json()["products"]) == 1


def test_only_live_rooms_are_known(client: TestClient) -> None:
    client.post("/v1/events", json=[event("room_end", room_id="tool-room"), start("a/b", "zoe")])
    assert client.get("/v1/rooms/a/b").json()["streamer_id"] == "zoe"
    for room_id in ("tool-room", "never heard of", "x" * 129):
        answer = client.get(f"/v1/rooms/{room_id}")
        assert (answer.status_code, answer.json()) == (404, {"detail": "the room is not live"})


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1_001}, {"offset": -1}, {"limit": "many"}])
def test_a_wrong_page_is_named(client: TestClient, wrong: dict[str, object]) -> None:
    answer = client.get("/v1/rooms", params=wrong)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(wrong))]


def test_every_slate_is_logged_as_it_was_answered(client: TestClient, settings: Settings) -> None:
    feed = client.post("/v1/recommendations", json={"user_id": "u1", "k": 2}).json()
    products = client.post(
        "/v1/recommendations", json={"user_id": "u1", "surface": "room_products", "room_id": "scarf-room", "k": 5}
    ).json()
    found = [each for path in slate_files(Path(settings.data) / "slates") for each in read_slates(path)]
    assert [(each.at_ms, each.user_id, each.surface, each.room_id) for each in found] == [
        (NOW_MS, "u1", "room_feed", None),
        (NOW_MS, "u1", "room_products", "scarf-room"),
    ]
    for logged, answer, name in zip(found, (feed, products), ("room_id", "product_id"), strict=True):
        assert logged.request_id == answer["request_id"]
        assert logged.model_version == answer["model_version"]
        assert logged.degraded == answer["degraded"]
        assert logged.items == [(item[name], item["score"], item["propensity"]) for item in answer["items"]]


def test_slates_that_cannot_be_written_are_counted(client: TestClient, settings: Settings) -> None:
    folder = Path(settings.data) / "slates"
    folder.rmdir()
    folder.write_text("in the way")
    assert client.post("/v1/recommendations", json={"user_id": "u1", "k": 2}).status_code == 200
    assert "roomrec_slates_lost_total 1.0" in client.get("/metrics").text
