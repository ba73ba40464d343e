"""What the load tool is made of: the truth about rooms, rooms that change, viewers, and reports."""

import asyncio
import json
from collections import Counter
from io import StringIO
from typing import Any

import numpy as np
import pytest

from roomrec.events.validation import Rejection, validate_event
from scripts.load_serving.agenda import Agenda, now
from scripts.load_serving.connections import Pool
from scripts.load_serving.generator import request_head
from scripts.load_serving.recording import Recorder
from scripts.load_serving.reporting import Reporter, read_ledger
from scripts.load_serving.rooms import Change, EventMaker, Host, Rooms
from scripts.load_serving.truth import Truth, read_slate
from scripts.load_serving.viewers import Audience
from tests.scripts.load_serving_servers import NaiveEndpoint, Talk, answer, run, serving


def slate(*items: dict[str, Any]) -> Any:
    filled = [{"streamer_id": "mia", **item} for item in items]
    return read_slate(json.dumps({"request_id": "q7", "degraded": None, "items": filled}).encode())


def change(kind: str, product_id: str | None = None) -> Change:
    return Change(kind, Host("mia", ["silk", "wool"]), "r1", product_id, [])


def test_what_was_accepted_to_be_over_may_be_shown_until_the_bound() -> None:
    truth = Truth(bound_s=0.1)
    feed = slate({"room_id": "r1", "products": [{"product_id": "silk"}]}, {"room_id": "r2"})
    truth.check(feed, sent=9.0)
    truth.accepted(change("room_end"), at=10.0)
    truth.check(feed, sent=9.9)  # asked before
    truth.check(feed, sent=10.1)  # at the bound
    assert truth.not_live_shown == 0
    assert list(truth.staleness) == pytest.approx([0.1])
    truth.check(feed, sent=10.25)
    truth.check(slate({"room_id": "r2"}), sent=10.3)
    assert (truth.not_live_shown, truth.checked) == (1, 5)
    assert truth.examples == [{"shown": "room r1", "request_id": "q7", "ms_after_acceptance": 250.0}]


def test_sold_out_counts_everywhere_and_unlisted_in_its_room_until_it_is_sent_again() -> None:
    truth = Truth(bound_s=0.1)
    shelf = slate({"room_id": "r1", "product_id": "silk"}, {"room_id": "r2", "product_id": "silk"})
    feed = slate({"room_id": "r2", "products": [{"product_id": "silk"}]})
    truth.accepted(change("sold_out", "silk"), at=10.0)
    truth.check(shelf, sent=11.0)
    truth.check(feed, sent=11.0)
    assert truth.not_live_shown == 3
    truth.sending(change("restocked", "silk"))  # from now on nobody knows, and then it may be shown
    truth.check(shelf, sent=12.0)
    assert truth.not_live_shown == 3
    truth.accepted(change("product_unlisted", "silk"), at=20.0)
    truth.check(shelf, sent=21.0)
    truth.check(feed, sent=21.0)
    assert truth.not_live_shown == 4
    assert truth.examples[-1]["shown"] == "product silk in room r1"
    truth.sending(change("product_listed", "silk"))
    truth.check(shelf, sent=22.0)
    assert truth.not_live_shown == 4


def make_rooms(**sizes: int) -> Rooms:
    return Rooms(
        EventMaker("run1"),
        streamer_ids=["mia", "tom", "zoe"],
        product_ids=[f"p{number}" for number in range(30)],
        products_per_room=10,
        rng=np.random.default_rng(4),
    )


def test_rooms_keep_the_contract_and_stay_as_many() -> None:
    rooms, naive = make_rooms(), NaiveEndpoint()
    changes = [rooms.start(host) for host in rooms.hosts]
    for each in changes:
        rooms.done(each, is_accepted=True)
    for _ in range(3_000):
        each = rooms.change()
        assert each is not None
        rooms.done(each, is_accepted=True)
        changes.append(each)
    events = [event for each in changes for event in each.events]
    for event in events:
        assert not isinstance(validate_event(event, received_at_ms=event["occurred_at_ms"]), Rejection)
        naive.apply(event)
    assert len({event["event_id"] for event in events}) == len(events)
    stamps = [(event["occurred_at_ms"], event["event_id"]) for event in events]
    assert stamps == sorted(stamps)  # so that the one sent later is the newer
    kinds = Counter(each.kind for each in changes)
    assert set(kinds) == {
        "room_start",
        "room_end",
        "product_listed",
        "product_unlisted",
        "product_pinned",
        "sold_out",
        "restocked",
    }
    assert kinds["room_end"] == pytest.approx(3_000 * 0.11, rel=0.25)
    assert abs(kinds["room_start"] - 3 - kinds["room_end"]) <= 3
    for host in rooms.hosts:
        if host.room_id is not None:
            shown = {item["product_id"] for item in naive.products(host.room_id)}
            assert shown == host.listed - host.sold_out
            assert len(shown) >= 4  # most of what is sold can be bought


def test_a_host_has_one_change_at_a_time() -> None:
    rooms = make_rooms()
    assert rooms.change() is None  # no room is live yet
    for host in rooms.hosts:
        rooms.done(rooms.start(host), is_accepted=True)
    under_way = [rooms.change() for _ in range(3)]
    assert {each.host.streamer_id for each in under_way if each} <= {"mia", "tom", "zoe"}
    assert len({each.host.streamer_id for each in under_way if each}) == sum(each is not None for each in under_way)
    for _ in range(10):
        rooms.change()
    assert rooms.change() is None
    refused = next(each for each in under_way if each and each.kind != "room_end")
    before = set(refused.host.listed), set(refused.host.sold_out)
    rooms.done(refused, is_accepted=False)
    assert (refused.host.listed, refused.host.sold_out) == before


def test_viewers_come_by_zipfs_law_and_report_what_they_saw() -> None:
    audience = Audience(
        EventMaker("run1"),
        viewer_ids=[f"v{number}" for number in range(1, 101)],
        exponent=1.0,
        k=10,
        rng=np.random.default_rng(1),
    )
    viewers = Counter(audience.viewer() for _ in range(50_000))
    harmonic = sum(1 / rank for rank in range(1, 101))  # 5.187
    assert viewers["v1"] == pytest.approx(50_000 / harmonic, rel=0.05)
    assert viewers["v10"] == pytest.approx(5_000 / harmonic, rel=0.15)
    assert audience.report() == []  # nobody has seen anything
    surfaces: Counter[str] = Counter()
    sizes = []
    for _ in range(2_000):
        ask = audience.ask()
        asked = json.loads(ask.body)
        surfaces[asked["surface"]] += 1
        items = [{"room_id": f"r{place}", "products": [{"product_id": "p1"}]} for place in range(5)]
        if asked["surface"] == "room_products":
            assert asked["room_id"] in {"r0", "r1", "r2", "r3", "r4"}
            items = [{"room_id": asked["room_id"], "product_id": f"p{place}"} for place in range(5)]
        audience.answered(ask, slate(*items))
        events = audience.report()
        sizes.append(len(events))
        assert {event["user_id"] for event in events} <= set(viewers)
        for event in events:
            assert not isinstance(validate_event(event, received_at_ms=event["occurred_at_ms"]), Rejection), event
    assert surfaces["room_feed"] == pytest.approx(1_000, rel=0.02)  # after each feed one room is entered
    assert set(sizes) == set(range(1, 21))
    assert np.mean(sizes) == pytest.approx(10.5, rel=0.05)


class Moody(NaiveEndpoint):
    """Stores and does not say so, refuses, and answers nonsense, by turns."""

    def __init__(self) -> None:
        super().__init__()
        self.moods = ["silent", "refuses", "nonsense", "stores and hangs up"]
        self.asked_at: list[float] = []

    def react(self, talk: Talk, head: bytes, body: bytes) -> None:
        mood = self.moods.pop(0) if self.moods else "good"
        self.asked_at.append(now())
        if mood == "refuses":
            talk.write(answer(b"{}", status="503 Service Unavailable", headers="Retry-After: 1\r\n"))
        elif mood == "nonsense":
            talk.write(answer(b"accepted, thank you"))
        elif mood == "stores and hangs up":
            self.post(json.loads(body))
            talk.transport.abort()
        elif mood == "good":
            super().react(talk, head, body)


def test_events_are_sent_with_the_same_ids_until_they_are_acknowledged() -> None:
    endpoint, ledger, done = Moody(), StringIO(), []

    async def post() -> Reporter:
        async with serving(endpoint.react) as target:
            pool = Pool([target], connections=2, timeout_s=0.3)
            await pool.open()
            agenda = Agenda()
            reporter = Reporter(pool, agenda, ledger=ledger)
            events = [EventMaker("run1").make("room_end", room_id="r1")]
            head = request_head(target, "POST", "/v1/events")
            reporter.post(head, events, now(), Recorder(), lambda is_stored, _: done.append(is_stored))
            while reporter.pending:
                await asyncio.sleep(0.01)
            agenda.close()
            await pool.close()
            return reporter

    reporter = run(post())
    assert done == [True]
    assert endpoint.accepted == {"run1-000000000": 1}
    assert reporter.retries == 4
    assert reporter.unexpected_duplicates == 0
    found = reporter.summary()
    assert (found["events_acknowledged"], found["events_duplicate"], found["events_unacknowledged"]) == (1, 1, 0)
    gaps = np.diff(endpoint.asked_at)
    assert 0.3 <= gaps[0] < 0.7  # the timeout, then 50 ms
    assert 1.0 <= gaps[1] < 1.3  # Retry-After
    assert 0.2 <= gaps[2] < 0.5
    assert read_ledger(StringIO(ledger.getvalue())) == ({"run1-000000000"}, set())


def test_our_own_fault_is_final() -> None:
    refusal = answer(b'{"detail": "no"}', status="422 Unprocessable Entity")
    done: list[bool] = []

    async def post() -> dict[str, Any]:
        async with serving(lambda talk, _head, _body: talk.write(refusal)) as target:
            pool = Pool([target], connections=1)
            await pool.open()
            agenda = Agenda()
            reporter = Reporter(pool, agenda)
            events = [EventMaker("run1").make("room_end") for _ in range(3)]
            head = request_head(target, "POST", "/v1/events")
            reporter.post(head, events, now(), Recorder(), lambda is_stored, _: done.append(is_stored))
            await pool.drain(2)
            agenda.close()
            await pool.close()
            return reporter.summary()

    found = run(post())
    assert done == [False]
    assert (found["events_rejected"], found["events_unacknowledged"], found["event_posts_retried"]) == (3, 0, 0)
    assert found["event_problems"] == {'422 {"detail": "no"}': 1}
