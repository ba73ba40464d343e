"""What viewers of a small shop are shown over HTTP."""

from typing import Any

import pytest

from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, listed, opening, start


def post(client: TestClient, *events: dict[str, Any]) -> None:
    answer = client.post("/v1/events", json=list(events))
    assert answer.json()["accepted"] == len(events), answer.text


def feed(client: TestClient, user_id: str, k: int = 10) -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json={"user_id": user_id, "surface": "room_feed", "k": k})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rooms(slate: dict[str, Any]) -> list[str]:
    return [item["room_id"] for item in slate["items"]]


def products(client: TestClient, user_id: str, room_id: str, k: int = 10) -> dict[str, Any]:
    asked = {"user_id": user_id, "surface": "room_products", "room_id": room_id, "k": k}
    answer = client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(item: dict[str, Any]) -> list[str]:
    return [reason["code"] for reason in item["reasons"]]


def test_nothing_live(client: TestClient) -> None:
    slate = feed(client, "u1")
    assert (slate["items"], slate["degraded"]) == ([], "nothing_live")


def test_an_unknown_viewer_sees_what_is_popular(client: TestClient) -> None:
    post(client, *opening())
    slate = feed(client, "stranger", k=3)
    assert slate["degraded"] == "unknown_user"
    assert rooms(slate) == ["tool-room", "scarf-room", "quiet-room"]  # as often as their hosts were seen in training


def test_what_draws_viewers_now_comes_before_what_did(client: TestClient) -> None:
    post(client, *opening(), *(enter(f"u{n}", "quiet-room", "zoe") for n in range(4)))
    slate = feed(client, "stranger", k=3)
    assert rooms(slate) == ["quiet-room", "tool-room", "scarf-room"]
    assert codes(slate["items"][0]) == ["popular_now"]


def test_what_a_viewer_does_changes_the_next_answer(client: TestClient) -> None:
    post(client, *opening(), enter("u1", "tool-room", "tom"))
    slate = feed(client, "u1", k=2)
    assert slate["degraded"] is None
    assert rooms(slate)[0] == "tool-room"
    assert codes(slate["items"][0]) == ["watched_before"]
    post(client, *(enter("u1", "scarf-room", "mia") for _ in range(3)))
    assert rooms(feed(client, "u1", k=2))[0] == "scarf-room"


def test_a_slate_says_where_it_comes_from(client: TestClient) -> None:
    post(client, *opening(), enter("u1", "tool-room", "tom"))
    slate = feed(client, "u1", k=2)
    assert slate["model_version"] == client.get("/v1/models").json()["champion"]
    assert slate["variant"] == "champion"
    assert len(slate["request_id"]) == 36
    assert [(item["position"], item["propensity"]) for item in slate["items"]] == [(0, 1.0), (1, 1.0)]
    assert slate["items"][0]["score"] >= slate["items"][1]["score"]


def test_events_the_model_cannot_read_are_an_empty_history(client: TestClient) -> None:
    post(client, *opening(), start("new-room", "never-seen"), enter("u1", "new-room", "never-seen"))
    assert feed(client, "u1", k=1)["degraded"] == "empty_history"


def test_fewer_live_rooms_than_asked_for(client: TestClient) -> None:
    post(client, *opening(), enter("u1", "tool-room", "tom"))
    slate = feed(client, "u1", k=4)
    assert (len(slate["items"]), slate["degraded"]) == (3, "fewer_than_k")


def test_a_room_that_starts_is_there_at_once(client: TestClient) -> None:
    post(client, *opening(), enter("u1", "tool-room", "tom"))
    post(client, start("tool-room-2", "tom"))
    assert set(rooms(feed(client, "u1", k=2))) == {"tool-room", "tool-room-2"}


def test_a_room_that_ends_is_gone_at_once_and_for_good(client: TestClient) -> None:
    post(client, *opening(), enter("u1", "tool-room", "tom"))
    post(client, event("room_end", room_id="tool-room"))
    assert "tool-room" not in rooms(feed(client, "u1"))
    assert products(client, "u1", "tool-room")["degraded"] == "room_not_live"
    post(client, start("tool-room", "tom"), listed("tool-room", "saw"))
    assert "tool-room" not in rooms(feed(client, "u1"))


@pytest.mark.parametrize(
    "gone",
    [
        event("stock_changed", product_id="silk", stock=0),
        event("product_unlisted", room_id="scarf-room", product_id="silk"),
    ],
)
def test_what_cannot_be_bought_is_gone_at_once(client: TestClient, gone: dict[str, Any]) -> None:
    post(client, *opening(), event("product_click", user_id="u1", product_id="silk"))
    assert [item["product_id"] for item in products(client, "u1", "scarf-room")["items"]] == ["silk", "wool"]
    post(client, gone)
    assert [item["product_id"] for item in products(client, "u1", "scarf-room")["items"]] == ["wool"]
    assert "silk" not in str(feed(client, "u1"))


def test_a_restocked_product_comes_back(client: TestClient) -> None:
    post(client, *opening(), event("stock_changed", ago_ms=900, product_id="silk", stock=0))
    post(client, event("stock_changed", ago_ms=800, product_id="silk", stock=1))
    shown = {item["product_id"]: item for item in products(client, "u1", "scarf-room")["items"]}
    assert shown["silk"]["stock"] == 1
    assert codes(shown["silk"]) == ["few_left"]


def test_an_older_event_that_comes_late_changes_nothing(client: TestClient) -> None:
    post(client, *opening(), event("stock_changed", ago_ms=100, product_id="silk", stock=0))
    post(client, event("stock_changed", ago_ms=200, product_id="silk", stock=9))
    post(client, listed("scarf-room", "silk", stock=9))
    assert [item["product_id"] for item in products(client, "u1", "scarf-room")["items"]] == ["wool"]


def test_a_room_with_nothing_to_buy(client: TestClient) -> None:
    post(client, *opening())
    slate = products(client, "u1", "quiet-room")
    assert (slate["items"], slate["degraded"]) == ([], "nothing_live")


def test_products_carry_what_a_frontend_shows(client: TestClient) -> None:
    post(client, *opening(), event("order", user_id="u1", product_id="wool"))
    post(client, event("product_pinned", room_id="scarf-room", product_id="silk"))
    shown = {item["product_id"]: item for item in products(client, "u1", "scarf-room", k=2)["items"]}
    silk = shown["silk"]
    assert (silk["room_id"], silk["streamer_id"]) == ("scarf-room", "mia")
    assert (silk["title"], silk["price_cents"], silk["stock"], silk["category"]) == ("Silk", 1_990, 10, "scarves")
    assert silk["reasons"] == [
        {"code": "on_air", "text": "Being shown in the room right now"},
        {"code": "like_what_you_bought", "text": "Like what you bought"},
    ]
    assert codes(shown["wool"]) == ["bought_before"]


def test_reasons_of_a_room_are_true(client: TestClient) -> None:
    post(client, *opening(), event("follow", user_id="u1", streamer_id="mia"))
    post(client, event("order", user_id="u1", product_id="drill"))
    by_room = {item["room_id"]: codes(item) for item in feed(client, "u1")["items"]}
    assert by_room == {
        "scarf-room": ["follows_host"],
        "tool-room": ["sells_what_you_bought", "new_host"],
        "quiet-room": ["new_host"],
    }


def test_repeats_are_not_filtered(client: TestClient) -> None:
    post(client, *opening(), enter("u1", "tool-room", "tom"))
    assert rooms(feed(client, "u1", k=1)) == rooms(feed(client, "u1", k=1)) == ["tool-room"]


def test_products_of_a_feed_are_few_and_ranked(client: TestClient) -> None:
    post(client, *opening(), *(listed("scarf-room", f"p{n}") for n in range(5)))
    post(client, event("product_click", user_id="u1", product_id="wool"))
    item = next(item for item in feed(client, "u1")["items"] if item["room_id"] == "scarf-room")
    assert len(item["products"]) == 3
    assert item["products"][0]["product_id"] == "wool"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 129}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"user_id": "u1", "k": 0}, "k"),
        ({"user_id": "u1", "k": 201}, "k"),
        ({"user_id": "u1", "k": 10**30}, "k"),
        ({"user_id": "u1", "k": "5"}, "k"),
        ({"user_id": "u1", "k": 1.5}, "k"),
        ({"user_id": "u1", "surface": "window"}, "surface"),
        ({"user_id": "u1", "surface": "room_products", "room_id": ""}, "room_id"),
        ({"user_id": "u1", "context": {"a": {"b": []}}}, "context"),
        ({"user_id": "u1", "context": []}, "context"),
    ],
)
def test_a_bad_request_names_the_field(client: TestClient, body: dict[str, Any], field: str) -> None:
    answer = client.post("/v1/recommendations", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][:2] == ["body", field]


def test_products_of_no_room_cannot_be_asked_for(client: TestClient) -> None:
    answer = client.post("/v1/recommendations", json={"user_id": "u1", "surface": "room_products"})
    assert answer.status_code == 422
    [problem] = answer.json()["detail"]
    assert problem["loc"] == ["body", "room_id"]
    assert "room_id is needed" in problem["msg"]


def refuse(user_id: str, **columns: Any) -> dict[str, Any]:
    return event("not_interested", ago_ms=500, user_id=user_id, **columns)


@pytest.mark.parametrize("known", [True, False], ids=["model", "popularity"])
@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ({"room_id": "scarf-room", "streamer_id": "mia"}, {"late-room", "tool-room", "quiet-room"}),
        ({"streamer_id": "mia"}, {"tool-room", "quiet-room"}),
    ],
)
def test_what_a_viewer_refused_is_not_shown_to_that_viewer(
    client: TestClient, known: bool, refused: dict[str, Any], left: set[str]
) -> None:
    post(client, *opening(), start("late-room", "mia"), refuse("u1", **refused))
    if known:
        post(client, enter("u1", "scarf-room", "mia"))
    slate = feed(client, "u1", k=4)
    assert set(rooms(slate)) == left
    assert slate["degraded"] == ("fewer_than_k" if known else "empty_history")
    assert len(rooms(feed(client, "u1", k=1))) == 1
    assert "scarf-room" in rooms(feed(client, "somebody else"))


@pytest.mark.parametrize("known", [True, False], ids=["model", "popularity"])
def test_a_refused_product_is_shown_nowhere(client: TestClient, known: bool) -> None:
    post(client, *opening(), refuse("u1", product_id="silk", room_id="scarf-room", streamer_id="mia"))
    if known:
        post(client, enter("u1", "scarf-room", "mia"))
    assert [item["product_id"] for item in products(client, "u1", "scarf-room")["items"]] == ["wool"]
    [room] = [item for item in feed(client, "u1")["items"] if item["room_id"] == "scarf-room"]
    assert [product["product_id"] for product in room["products"]] == ["wool"]
    post(client, refuse("u1", product_id="wool"))
    slate = products(client, "u1", "scarf-room")
    assert slate["items"] == []
    assert slate["degraded"] == ("fewer_than_k" if known else "empty_history")


def test_following_a_host_takes_a_refusal_back(client: TestClient) -> None:
    post(client, *opening(), refuse("u1", streamer_id="mia"))
    assert "scarf-room" not in rooms(feed(client, "u1"))
    post(client, event("follow", ago_ms=100, user_id="u1", streamer_id="mia"))
    assert rooms(feed(client, "u1"))[0] == "scarf-room"
    assert client.get("/v1/users/u1").json()["not_interested"]["streamer_ids"] == []
