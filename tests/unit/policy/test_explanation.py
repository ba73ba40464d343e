"""Each reason is given when it is true, and only then."""

from typing import Any

import pytest

from roomrec.policy.explanation import (
    PRODUCT_SENTENCES,
    ROOM_SENTENCES,
    RoomFacts,
    ViewerFacts,
    explain_product,
    explain_room,
)

OLD_ROOM = RoomFacts("mia", ["silk"], ["scarves"], is_popular_now=False, age_ms=3_600_000)
SILK = {"product_id": "silk", "category": "scarves", "stock": None, "is_on_air": False}


@pytest.mark.parametrize(
    ("room", "viewer", "expected"),
    [
        (OLD_ROOM, ViewerFacts(), ["live_now"]),
        (OLD_ROOM, ViewerFacts(followed_streamers={"mia"}), ["follows_host"]),
        (OLD_ROOM, ViewerFacts(watched_streamers={"mia"}), ["watched_before"]),
        (OLD_ROOM, ViewerFacts(followed_streamers={"tom"}, watched_streamers={"zoe"}), ["live_now"]),
        (OLD_ROOM, ViewerFacts(bought_products={"silk"}, bought_categories={"scarves"}), ["sells_what_you_bought"]),
        (OLD_ROOM, ViewerFacts(bought_products={"wool"}, bought_categories={"scarves"}), ["like_what_you_bought"]),
        (OLD_ROOM, ViewerFacts(bought_products={"drill"}, bought_categories={"tools"}), ["live_now"]),
        (OLD_ROOM._replace(is_popular_now=True), ViewerFacts(), ["popular_now"]),
        (OLD_ROOM._replace(age_ms=599_999), ViewerFacts(), ["just_started"]),
        (OLD_ROOM._replace(age_ms=600_000), ViewerFacts(), ["live_now"]),
        (OLD_ROOM, ViewerFacts(is_known_whole=True), ["new_host"]),
        (OLD_ROOM, ViewerFacts(is_known_whole=True, watched_streamers={"mia"}), ["watched_before"]),
        (
            OLD_ROOM._replace(is_popular_now=True, age_ms=0),
            ViewerFacts({"mia"}, {"mia"}, {"silk"}),
            ["follows_host", "watched_before", "sells_what_you_bought"],
        ),
    ],
)
def test_reasons_of_a_room(room: RoomFacts, viewer: ViewerFacts, expected: list[str]) -> None:
    reasons = explain_room(room, viewer)
    assert [reason["code"] for reason in reasons] == expected
    assert [reason["text"] for reason in reasons] == [ROOM_SENTENCES[code] for code in expected]


@pytest.mark.parametrize(
    ("product", "viewer", "expected"),
    [
        (SILK, ViewerFacts(), ["on_sale_now"]),
        (SILK | {"is_on_air": True}, ViewerFacts(), ["on_air"]),
        (SILK, ViewerFacts(bought_products={"silk"}, bought_categories={"scarves"}), ["bought_before"]),
        (SILK, ViewerFacts(bought_products={"wool"}, bought_categories={"scarves"}), ["like_what_you_bought"]),
        (SILK, ViewerFacts(seen_products={"silk"}), ["looked_at_before"]),
        (SILK | {"stock": 5}, ViewerFacts(), ["few_left"]),
        (SILK | {"stock": 6}, ViewerFacts(), ["on_sale_now"]),
        (SILK | {"category": None}, ViewerFacts(bought_categories={"scarves"}), ["on_sale_now"]),
    ],
)
def test_reasons_of_a_product(product: dict[str, Any], viewer: ViewerFacts, expected: list[str]) -> None:
    reasons = explain_product(**product, viewer=viewer)
    assert [reason["code"] for reason in reasons] == expected
    assert [reason["text"] for reason in reasons] == [PRODUCT_SENTENCES[code] for code in expected]
