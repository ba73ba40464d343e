"""What a replica remembers of viewers counts only while the state says the same."""

import msgspec
import pytest

from roomrec.events.schema import EVENT_TYPE_CODES
from serving.deployments.viewers import Viewer, ViewerCache
from serving.state.records import PastEvent, UserRecord


def past(event_type: str, *, nth: int, streamer_id: str | None = None, product_id: str | None = None) -> PastEvent:
    return PastEvent(nth, f"e{nth}", nth, EVENT_TYPE_CODES[event_type], streamer_id, product_id, None, -1)


def packed(user_id: str, *events: PastEvent) -> bytes:
    return msgspec.msgpack.encode(UserRecord(user_id, list(events)))


def test_what_follows_from_a_record() -> None:
    viewer = Viewer(
        UserRecord(
            "ann",
            [
                past("enter", nth=1, streamer_id="mia"),
                past("product_click", nth=2, streamer_id="tom", product_id="drill"),
                past("add_to_cart", nth=3, product_id="saw"),
                past("product_click", nth=4, product_id="saw"),
                past("order", nth=5, product_id="silk"),
            ],
        )
    )
    assert viewer.watched_streamers == {"mia"}
    assert viewer.seen_products == {"drill", "saw"}
    assert viewer.bought_products == {"silk"}
    assert viewer.products_by_interest == ["saw", "silk", "drill"]  # the newest first among those of one event


def test_the_same_record_is_the_same_viewer_and_another_record_is_not() -> None:
    cache = ViewerCache(max_bytes=10_000)
    first = cache.viewer("ann", packed("ann", past("enter", nth=1, streamer_id="mia")))
    assert first is cache.viewer("ann", packed("ann", past("enter", nth=1, streamer_id="mia")))
    changed = cache.viewer("ann", packed("ann", past("enter", nth=2, streamer_id="tom")))
    assert changed is not None
    assert changed.watched_streamers == {"tom"}


def test_an_erased_viewer_is_nobody_and_leaves_nothing() -> None:
    cache = ViewerCache(max_bytes=10_000)
    cache.viewer("ann", packed("ann"))
    assert cache.viewer("ann", None) is None
    assert list(cache) == []


def test_those_who_asked_longest_ago_are_forgotten() -> None:
    records = {name: packed(name, past("enter", nth=1, streamer_id="mia")) for name in ("ann", "bob", "cyd")}
    cache = ViewerCache(max_bytes=2 * len(records["ann"]))
    for name in ("ann", "bob", "ann", "cyd"):
        cache.viewer(name, records[name])
    assert list(cache) == ["ann", "cyd"]
    cache.forget("ann")
    cache.viewer("bob", records["bob"])
    assert list(cache) == ["cyd", "bob"]


def test_nothing_is_remembered_where_nothing_may_be() -> None:
    cache = ViewerCache(max_bytes=0)
    viewer = cache.viewer("ann", packed("ann"))
    assert viewer is not None
    assert len(cache) == 0
    with pytest.raises(ValueError, match="max_bytes must not be negative, received -1"):
        ViewerCache(max_bytes=-1)
