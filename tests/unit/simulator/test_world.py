"""The log of a world is possible, repeatable and explained by its truth."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from roomrec.events.schema import EVENT_SCHEMA, EVENT_TYPES, ROOM_EVENT_TYPES
from roomrec.events.validation import validate_event
from roomrec.simulator.config import DAY_MS, WorldConfig
from roomrec.simulator.exposure import live_minutes
from roomrec.simulator.rows import of_type
from roomrec.simulator.truth import all_room_utility
from roomrec.simulator.world import World

IN_ROOM = {"enter", "watch", "leave", "like", "comment", "share", "gift", "impression", "coupon_claim", "follow"}
SHOPPING = {"product_click", "add_to_cart", "order"}
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def events(tiny_log):
    return tiny_log.to_pylist()


def test_every_type_of_the_contract_occurs(tiny_log):
    assert tiny_log.schema == EVENT_SCHEMA
    assert set(tiny_log["event_type"].to_pylist()) == set(EVENT_TYPES)


def test_nothing_happens_in_a_room_that_is_not_live(events):
    streamer_of, inside = {}, {}
    for event in events:
        kind, room = event["event_type"], event["room_id"]
        if kind == "room_start":
            assert room not in streamer_of
            streamer_of[room] = event["streamer_id"]
        elif kind == "room_end":
            del streamer_of[room]
            assert room not in inside.values()
        else:
            assert streamer_of[room] == event["streamer_id"], event
        if kind == "enter":
            assert event["user_id"] not in inside
            inside[event["user_id"]] = room
        elif kind == "leave":
            assert inside.pop(event["user_id"]) == room
    assert not streamer_of
    assert not inside


def test_only_what_is_listed_and_in_stock_is_clicked_and_ordered(events):
    stock, due, restocks, sold_out = {}, {}, 0, 0
    for event in events:
        kind, product = event["event_type"], (event["room_id"], event["product_id"])
        if kind == "product_listed":
            stock[product] = event["stock"]
            assert event["stock"] > 0
        elif kind in SHOPPING | {"product_pinned"}:
            assert stock[product] > 0, event
        elif kind == "product_unlisted":
            del stock[product]
        if kind == "order":
            assert product not in due
            assert event["amount_cents"] > 0
            due[product] = stock[product] - event["quantity"]
        elif kind == "stock_changed":
            if product in due:
                assert event["stock"] == due.pop(product) >= 0
                sold_out += event["stock"] == 0
            else:
                assert stock[product] == 0 < event["stock"]
                restocks += 1
            stock[product] = event["stock"]
    assert not due
    assert sold_out > 10
    assert 0 < restocks < sold_out


def test_a_slate_explains_the_entry_it_led_to(events):
    shown = {(e["request_id"], e["position"]): e for e in events if e["event_type"] == "impression"}
    entered = [e for e in events if e["event_type"] == "enter" and e["request_id"]]
    assert len(entered) > 100
    for event in entered:
        impression = shown[event["request_id"], event["position"]]
        assert (impression["room_id"], impression["user_id"]) == (event["room_id"], event["user_id"])
        assert 0 < impression["propensity"] <= 1


def test_the_log_has_the_traits_that_make_live_commerce_hard(events, tiny_world):
    watches = [e["watch_time_ms"] for e in events if e["event_type"] == "watch"]
    assert 0.05 < np.mean(np.array(watches) < 3_000) < 0.4
    clicks = defaultdict(list)
    delays, returns, seen = [], Counter(), set()
    for event in events:
        pair = (event["user_id"], event["product_id"])
        if event["event_type"] == "product_click":
            clicks[pair].append(event["occurred_at_ms"])
        elif event["event_type"] == "order":
            delays.append(event["occurred_at_ms"] - min(clicks[pair]))
        elif event["event_type"] == "enter":
            visit = (event["user_id"], event["streamer_id"])
            returns[visit in seen] += 1
            seen.add(visit)
    assert 0 < np.mean(np.array(delays) > 30 * 60_000) < 0.3
    assert returns[True] > 0.1 * returns[False]
    start = tiny_world.config.start_at_ms
    users_by_day = defaultdict(set)
    for event in events:
        users_by_day[(event["occurred_at_ms"] - start) // DAY_MS].add(event["user_id"])
    known = set(tiny_world.viewer_ids(start))
    for day in (1, 2, 3):
        assert users_by_day[day] - known - {None}, f"nobody new on day {day}"
        known |= users_by_day[day]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    def bytes_of(seed):
        config = WorldConfig(seed=seed, num_days=2, num_viewers=60, num_streamers=8)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, EVENT_SCHEMA) as writer:
            for table in World(config).days():
                writer.write_table(table)
        return sink.getvalue().to_pybytes()

    assert bytes_of(5) == bytes_of(5)
    assert bytes_of(5) != bytes_of(6)


def test_room_events_are_those_of_the_log(tiny_world, events):
    config = tiny_world.config
    logged = [e["event_id"] for e in events if e["event_type"] in ROOM_EVENT_TYPES]
    assert [e["event_id"] for e in tiny_world.room_events(config.start_at_ms, config.end_at_ms)] == logged


def test_after_the_log_tonight_goes_on(tiny_world):
    midnight = tiny_world.config.end_at_ms
    tonight = tiny_world.room_events(midnight, midnight + DAY_MS)
    kinds = Counter(event["event_type"] for event in tonight)
    assert kinds["room_start"] == kinds["room_end"] > 5
    assert all(midnight <= event["occurred_at_ms"] < midnight + DAY_MS for event in tonight)
    for event in tonight:
        assert validate_event(event, received_at_ms=event["occurred_at_ms"])["event_id"] == event["event_id"]
    half = midnight + 20 * HOUR_MS
    assert tiny_world.room_events(midnight, half) + tiny_world.room_events(half, midnight + DAY_MS) == tonight
    assert tiny_world.room_events(half, half) == []


def test_live_rooms_are_what_the_events_add_up_to(tiny_world):
    midnight = tiny_world.config.end_at_ms
    at_ms = midnight + 20 * HOUR_MS
    rooms, said = {}, {}
    for event in tiny_world.room_events(midnight, at_ms + 1):
        kind, room = event["event_type"], event["room_id"]
        if kind in ("room_start", "product_listed"):
            said[room, event.get("product_id")] = event["context"]
        if kind == "room_start":
            rooms[room] = {}
        elif kind == "room_end":
            del rooms[room]
        elif kind in ("product_listed", "stock_changed"):
            rooms[room][event["product_id"]] = event["stock"]
        elif kind == "product_unlisted":
            del rooms[room][event["product_id"]]
    live = tiny_world.live_rooms(at_ms)
    assert {room.room_id: {p.product_id: p.stock for p in room.products} for room in live} == rooms
    assert len(live) > 3
    for room in live:
        facts = {"category": room.category, "title": room.title, "attributes": room.attributes, "region": room.region}
        assert said[room.room_id, None] == facts
        for product in room.products:
            facts = {"category": product.category, "title": product.title, "attributes": product.attributes}
            assert said[room.room_id, product.product_id] == facts


def test_a_viewer_answers_a_slate_with_possible_events(tiny_world):
    at_ms = tiny_world.config.end_at_ms + 20 * HOUR_MS
    live = {room.room_id: room for room in tiny_world.live_rooms(at_ms)}
    ended = tiny_world.live_rooms(tiny_world.config.start_at_ms + 20 * HOUR_MS)[0].room_id
    slate = [ended, *list(live)[:4]]
    kinds = Counter()
    for seed, viewer in enumerate(tiny_world.viewer_ids(at_ms)[:80]):
        events = tiny_world.viewer_response(viewer, slate, at_ms, np.random.default_rng(seed), request_id="r1")
        assert [e["occurred_at_ms"] for e in events] == sorted(e["occurred_at_ms"] for e in events)
        for event in events:
            assert event["room_id"] in live
            assert event["user_id"] == viewer
            assert event["request_id"] == "r1"
            assert validate_event(event, received_at_ms=event["occurred_at_ms"])["event_id"] == event["event_id"]
        kinds.update(event["event_type"] for event in events)
    assert kinds["impression"] == 4 * 80
    assert 8 < kinds["enter"] == kinds["watch"] == kinds["leave"] < 80
    assert kinds["product_click"] > 0


def test_the_same_generator_gives_the_same_answer(tiny_world):
    at_ms = tiny_world.config.end_at_ms + 20 * HOUR_MS
    slate = [room.room_id for room in tiny_world.live_rooms(at_ms)]
    first, again, other = (
        tiny_world.viewer_response("u0000003", slate, at_ms, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("user", "rooms", "message"),
    [
        ("u9999999", [], "'u9999999' is not of this world"),
        ("mia", [], "'mia' is not an id of this world"),
        ("u0000001", ["mia"], "'mia' is not an id of a room"),
        ("u0000001", ["r0004-99999"], "there is no room 'r0004-99999'"),
    ],
)
def test_a_stranger_is_refused_by_name(tiny_world, user, rooms, message):
    at_ms = tiny_world.config.end_at_ms + 20 * HOUR_MS
    with pytest.raises(ValueError, match=message):
        tiny_world.viewer_response(user, rooms, at_ms, np.random.default_rng(0))


def test_utility_of_one_viewer_is_the_utility_of_pairs(tiny_world):
    at_ms = tiny_world.config.start_at_ms + 20 * HOUR_MS
    room = tiny_world.live_rooms(at_ms)[0]
    items = [room.room_id, room.products[0].product_id]
    together = tiny_world.true_utility("u0000007", items, at_ms)
    pairs = tiny_world.true_utility(["u0000007", "u0000008"], items, np.array([at_ms, at_ms]))
    assert together[0] == pairs[0]
    assert together[1] != pairs[1]
    with pytest.raises(ValueError, match="user_ids has 1 ids, item_ids 2"):
        tiny_world.true_utility(["u0000007"], items, at_ms)


def test_an_instant_before_the_world_is_refused(tiny_world):
    with pytest.raises(ValueError, match="at_ms is 0, the world begins at"):
        tiny_world.live_rooms(0)


def test_the_truth_ranks_choices_far_better_than_popularity_and_that_better_than_chance():
    world = World(WorldConfig(seed=11, num_days=6, num_viewers=900, num_streamers=90))
    watched = np.zeros(len(world.population.streamers.hour))
    ndcg = defaultdict(list)
    for day in range(world.config.num_days):
        rooms, rows, _ = world.day(day)
        row = np.flatnonzero(of_type(rows, "watch") & (rows.watch_time_ms >= 3_000))
        at_ms = rows.at_ms[row] - rows.watch_time_ms[row]
        user, room = rows.user[row].astype(np.int64), rows.room[row].astype(np.int64)
        if day >= 4:
            live = live_minutes(rooms, 0.4).live[(at_ms // 60_000) % 1_440]
            truth = all_room_utility(world.population, rooms, user=user, at_ms=at_ms)
            popularity = np.broadcast_to(watched[rooms.streamer], truth.shape)
            chance = np.random.default_rng(0).random(truth.shape)
            for name, score in (("truth", truth), ("popularity", popularity), ("chance", chance)):
                own = score[np.arange(len(row)), room][:, None]
                rank = np.sum(live & (score > own), axis=1)
                ndcg[name].append(np.where(rank < 10, 1 / np.log2(rank + 2), 0.0))
        np.add.at(watched, rooms.streamer[room], 1)
    truth, popularity, chance = (np.concatenate(ndcg[name]).mean() for name in ("truth", "popularity", "chance"))
    assert truth > 0.55
    assert popularity + 0.2 < truth
    assert chance + 0.05 < popularity


def test_ids_are_unique(tiny_log):
    assert len(pc.unique(tiny_log["event_id"])) == len(tiny_log)
