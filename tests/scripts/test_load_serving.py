"""The load tool against endpoints that keep their word, that lie, that refuse, and against the real one."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
import uvloop
from rich.console import Console

from roomrec.events.validation import Rejection, validate_event
from scripts.load_serving import display, evening
from scripts.load_serving.agenda import Agenda, now
from scripts.load_serving.checks import is_pushed_out
from scripts.load_serving.connections import Pool
from scripts.load_serving.generator import request_head
from scripts.load_serving.options import read_options, stretches
from scripts.load_serving.recording import Recorder
from scripts.load_serving.reporting import Reporter, read_ledger
from scripts.load_serving.rooms import Change, EventMaker, Host, Rooms
from scripts.load_serving.truth import Truth, read_slate
from scripts.load_serving.viewers import Audience
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.scripts.load_serving_servers import NaiveEndpoint, Talk, answer, serving
from tests.serving.shop import publish_two

SCRIPT = Path(__file__).parents[2] / "scripts" / "load-serving"
SHORT = ["--duration", "1.5", "--warmup", "0.2", "--rate", "150", "--drain", "5", "--quiet"]
SHORT += ["--rooms", "8", "--products", "5", "--viewers", "50"]
BUSY = [*SHORT, "--room-changes-per-second", "60", "--probe-share", "1", "--read-back-share", "0.5"]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def load(endpoint: NaiveEndpoint, *arguments: str) -> dict[str, Any]:
    """Play an evening against an endpoint of this process."""

    async def play() -> dict[str, Any]:
        async with serving(endpoint.react) as target:
            return await evening.run(read_options([f"http://{target.host}:{target.port}", *arguments]))

    return run(play())


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


def test_an_endpoint_that_keeps_its_word_passes() -> None:
    endpoint = NaiveEndpoint()
    found = load(endpoint, *BUSY)
    assert found["failures"] == []
    assert found["not_live_shown"] == found["read_backs_missed"] == found["probes_after_bound_missed"] == 0
    assert found["probes_at_once_missed"] == 0
    assert min(found["read_backs"], found["probes_after_bound"]) > 10
    assert found["events_acknowledged"] == len(endpoint.events)
    assert found["achieved_rps"] == pytest.approx(150, rel=0.25)
    assert found["stretches"][0]["recommendations"]["errors"] == {}
    assert endpoint.rooms == {}  # it has tidied up
    viewers = sum("user_id" in event for event in endpoint.events.values())
    assert 3 < viewers / found["answers_checked"] < 15  # ten for each; on a busy machine sessions are cut short


class ShowsEndedRooms(NaiveEndpoint):
    def apply(self, event: dict[str, Any]) -> None:
        if event["event_type"] != "room_end":
            super().apply(event)


class ShowsSoldOut(NaiveEndpoint):
    def apply(self, event: dict[str, Any]) -> None:
        if event["event_type"] != "stock_changed":
            super().apply(event)


class ShowsUnlisted(NaiveEndpoint):
    def apply(self, event: dict[str, Any]) -> None:
        if event["event_type"] != "product_unlisted":
            super().apply(event)


class ShowsItLate(NaiveEndpoint):
    """Everything becomes true half a second after it was accepted."""

    def apply(self, event: dict[str, Any]) -> None:
        if event["event_type"] in ("room_end", "stock_changed", "product_unlisted"):
            asyncio.get_running_loop().call_later(0.5, self.late, event)
        else:
            super().apply(event)

    def late(self, event: dict[str, Any]) -> None:
        if event["event_type"] != "product_unlisted" or event["room_id"] in self.rooms:
            super().apply(event)


@pytest.mark.parametrize(
    ("liar", "example"),
    [(ShowsEndedRooms, "room "), (ShowsSoldOut, "product "), (ShowsUnlisted, " in room "), (ShowsItLate, " ")],
)
def test_what_must_not_be_shown_is_found(liar: type[NaiveEndpoint], example: str) -> None:
    found = load(liar(), *BUSY)
    assert found["not_live_shown"] > 10
    assert example in found["not_live_examples"][0]["shown"]
    assert found["not_live_examples"][0]["ms_after_acceptance"] > 100
    assert len(found["not_live_examples"]) == 5
    assert found["failures"][0] == f"{found['not_live_shown']} items were shown that must not be any more"


def test_a_bound_longer_than_the_delay_forgives_it() -> None:
    found = load(ShowsItLate(), *BUSY, "--bound-ms", "700")
    assert found["not_live_shown"] == 0
    assert found["still_shown"] > 10
    assert 100 < found["still_shown_ms"]["max"] < 620


class NeverShowsNewRooms(NaiveEndpoint):
    """Rooms of the beginning are shown, others not."""

    def products(self, room_id: str) -> list[dict[str, Any]]:
        return super().products(room_id) if room_id[-6:] < "000008" else []


class ForgetsViewers(NaiveEndpoint):
    def user(self, user_id: str) -> bytes:
        return answer(b'{"detail": "nothing is known"}', status="404 Not Found")


def test_what_newer_events_pushed_out_is_not_lost() -> None:
    def known(*occurred: int) -> bytes:
        return json.dumps({"history": [{"event_id": "e", "occurred_at_ms": each} for each in occurred]}).encode()

    event = {"event_id": "mine", "occurred_at_ms": 500}
    assert is_pushed_out(event, known(*range(501, 521)))
    assert not is_pushed_out(event, known(499, *range(501, 521)))  # an older one is there
    assert not is_pushed_out(event, known(*range(501, 520)))  # too few to have pushed any out
    assert not is_pushed_out(event, known())
    assert not is_pushed_out(event, b'{"detail": "nothing is known"}')
    assert not is_pushed_out(event, b"nonsense")


class LosesEvents(NaiveEndpoint):
    """Does not answer posts of viewers' events once the rooms are open."""

    def react(self, talk: Talk, head: bytes, body: bytes) -> None:
        if b"impression" not in body:
            super().react(talk, head, body)


class RejectsSome(NaiveEndpoint):
    def post(self, events: list[dict[str, Any]]) -> bytes:
        if len(events) != 3:
            return super().post(events)
        results = [{"event_id": event["event_id"], "status": "rejected", "reason": "missing:x"} for event in events]
        return answer(json.dumps({"results": results}).encode())


@pytest.mark.parametrize(
    ("liar", "failure"),
    [
        (NeverShowsNewRooms, "changes were not visible 100 ms after they were accepted"),
        (ForgetsViewers, "accepted events were not in the viewer's state"),
        (LosesEvents, "events were never acknowledged"),
        (RejectsSome, "events were rejected: {'rejected missing:x': "),
    ],
)
def test_what_is_not_visible_or_lost_is_found(liar: type[NaiveEndpoint], failure: str) -> None:
    found = load(liar(), *BUSY, "--drain", "1", "--timeout", "0.5")
    assert any(failure in each for each in found["failures"]), found["failures"]
    assert found["not_live_shown"] == 0


def test_who_may_not_is_told_in_a_sentence() -> None:
    class Guarded(NaiveEndpoint):
        def react(self, talk: Talk, head: bytes, body: bytes) -> None:
            talk.write(answer(b'{"detail": "no key"}', status="401 Unauthorized"))

    with pytest.raises(
        evening.LoadError, match=r'does not take .* 401 {"detail": "no key"}; ROOMREC_LOAD_OPERATOR_KEY'
    ):
        load(Guarded(), *SHORT)


def test_keys_come_from_the_environment_each_for_its_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOMREC_LOAD_KEY", "frontend-secret")
    monkeypatch.setenv("ROOMREC_LOAD_OPERATOR_KEY", "operator-secret")
    endpoint = NaiveEndpoint()
    found = load(endpoint, *BUSY)
    keys: dict[bytes, set[bytes]] = {}
    for head in endpoint.heads:
        line = next(each for each in head.split(b"\r\n") if each.startswith(b"authorization"))
        keys.setdefault(b" ".join(head.split(b" ")[:2])[:20], set()).add(line)
    assert keys[b"POST /v1/recommendat"] == {b"authorization: Bearer frontend-secret"}
    assert keys[b"POST /v1/events"] == {
        b"authorization: Bearer frontend-secret",
        b"authorization: Bearer operator-secret",
    }
    assert {line for path, lines in keys.items() if b"users" in path for line in lines} == {
        b"authorization: Bearer operator-secret"
    }
    assert "secret" not in json.dumps(found)
    monkeypatch.setenv("ROOMREC_LOAD_KEY", "two\r\nlines")
    with pytest.raises(evening.LoadError, match="no header may hold"):
        load(NaiveEndpoint(), *SHORT)


def test_a_closed_loop_reports_events_too() -> None:
    arguments = [each for each in SHORT if each not in ("--rate", "150")]
    found = load(NaiveEndpoint(), *arguments, "--concurrency", "4", "--events-per-recommendation", "5")
    assert found["failures"] == []
    stretch = found["stretches"][0]
    assert stretch["concurrency"] == 4
    assert stretch["recommendations"]["served"] > 100
    posts = stretch["events"]["served"] / stretch["recommendations"]["served"]
    assert posts == pytest.approx(5 / 10.5, rel=0.1)


def test_a_ramp_a_burst_and_the_proof_are_stretches() -> None:
    ramp = stretches(read_options(["http://h", "--rates", "100,500", "--duration", "7"]))
    assert [(each.name, each.rate, each.seconds, each.is_warmup) for each in ramp] == [
        ("warm-up", 100, 2, True),
        ("rate 100", 100, 7, False),
        ("rate 500", 500, 7, False),
    ]
    burst = stretches(read_options(["http://h", "--rate", "30", "--burst", "10", "--duration", "25", "--warmup", "0"]))
    assert [(each.name, each.rate, each.seconds, each.is_aftermath) for each in burst] == [
        ("rate 30, before", 30, 10, False),
        ("rate 30, burst", 300, 5, True),
        ("rate 30, after", 30, 10, True),
    ]
    proof = read_options(["http://h", "--proof", "--rate", "500"])
    assert (proof.duration, proof.room_changes_per_second, proof.probe_share, proof.bound_ms) == (600, 50, 1, 100)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["localhost:8000"], "url is 'localhost:8000': expected http://host:port"),
        (["http://h:port"], "expected http://host:port"),
        (["http://h/v1"], "without a path"),
        (["http://me:secret@h"], "keys come from ROOMREC_LOAD_KEY"),
        (["http://h", "--rate", "0"], r"rates are \[0.0\]: expected numbers above 0"),
        (["http://h", "--rates", "5,x"], "--rates: invalid rates value"),
        (["http://h", "--duration", "nan"], "--duration is nan: expected a number above 0"),
        (["http://h", "--rooms", "0"], "--rooms is 0: expected a number above 0"),
        (["http://h", "--products", "201"], "--products is 201: expected 1 to 200"),
        (["http://h", "--probe-share", "2"], "--probe-share is 2: expected a share"),
        (["http://h", "--concurrency", "4", "--burst", "3"], "--burst needs --rate"),
        (["http://h", "--rate", "4", "--concurrency", "3"], "not allowed with"),
    ],
)
def test_senseless_options_are_refused(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_options(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert re.search(sentence, said), said
    assert "secret" not in said


def test_files_name_what_the_model_knows(tmp_path: Path) -> None:
    file = tmp_path / "products.txt"
    file.write_text("silk\nwool\nsilk\n")
    assert evening.named("p", 2, file) == ["silk", "wool"]
    assert evening.named("v", 5, file, is_enough=True) == ["silk", "wool"]
    assert evening.named("load-v", 2, None) == ["load-v0000000", "load-v0000001"]
    with pytest.raises(evening.LoadError, match="names 2 ids: 5 are needed"):
        evening.named("p", 5, file)
    with pytest.raises(evening.LoadError, match="cannot be read: No such file"):
        evening.named("p", 5, tmp_path / "none.txt")
    with pytest.raises(evening.LoadError, match="cannot be written: Is a directory"):
        load(NaiveEndpoint(), *SHORT, "--ledger", str(tmp_path))


def test_two_runs_at_once_do_not_meet() -> None:
    async def play() -> list[dict[str, Any]]:
        endpoint = NaiveEndpoint()
        async with serving(endpoint.react) as target:
            url = f"http://{target.host}:{target.port}"
            return await asyncio.gather(*(evening.run(read_options([url, *BUSY])) for _ in range(2)))

    first, second = run(play())
    assert first["failures"] == second["failures"] == []
    assert first["asked"]["run_id"] != second["asked"]["run_id"]
    assert first["events_duplicate"] == second["events_duplicate"] == 0


def test_the_table_shows_the_last_second(capsys: pytest.CaptureFixture[str]) -> None:
    numbers = {"served": 480, "refused": 3, "errors": 0, "p50": 1.234, "p99": 9.876, "max": 21.0}
    nothing = {"served": 0, "refused": 0, "errors": 7}
    said = {"name": "rate 500", "left_s": 12, "kinds": {"recommendations": numbers, "room_changes": nothing}}
    said |= {"waiting": 4, "unacknowledged": 30, "not_live_shown": 0}
    Console(width=100).print(display._table(said))
    shown = capsys.readouterr().out
    assert re.search(r"recommendations .* 480 .* 3 .* 0 .* 1\.23 .* 9\.88 .* 21\.00", shown), shown
    assert re.search(r"room changes .* 0 .* 0 .* 7", shown)
    assert "rate 500, 12 s left" in shown
    line = display._line(said)
    assert line.startswith("rate 500, 12 s left: 480 served, 3 refused, 0 errors a second; p50 1.23 ms, p99 9.88 ms")
    assert line.endswith("4 waiting for a connection, 30 events not yet acknowledged, 0 shown that must not be")


@contextmanager
def real_endpoint(folder: Path) -> Iterator[str]:
    """The real endpoint over HTTP, in a thread."""
    registry = publish_two(folder / "registry")
    api = create_api(Endpoint.open(Settings(registry=str(registry), data=str(folder / "data"))))
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="error", ws="none", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_the_real_endpoint_keeps_its_word(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.txt"
    with real_endpoint(tmp_path) as url:
        command = [sys.executable, str(SCRIPT), url, *BUSY, "--ledger", str(ledger)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["not_live_shown"] == found["events_unacknowledged"] == found["read_backs_missed"] == 0
    assert found["answers_checked"] > 100
    assert min(found["probes_after_bound"], found["read_backs"]) > 0
    with ledger.open() as lines:
        acknowledged, rejected = read_ledger(lines)
    assert (len(acknowledged), rejected) == (found["events_acknowledged"], set())
    assert found["asked"]["command"].startswith("scripts/load-serving http")


def test_ctrl_c_ends_early_with_what_was_measured(tmp_path: Path) -> None:
    with real_endpoint(tmp_path) as url:
        command = [sys.executable, str(SCRIPT), url, *SHORT, "--duration", "60", "--rate", "50"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(4)
        os.kill(process.pid, signal.SIGINT)
        said, problems = process.communicate(timeout=20)
    assert process.returncode == 0, problems
    found = json.loads(said)
    assert 0.5 < found["stretches"][0]["seconds"] < 5
    assert found["offered_rps"] == pytest.approx(50, rel=0.5)
    assert found["failures"] == []


def test_where_nobody_listens_is_said_in_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "http://127.0.0.1:1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == "http://127.0.0.1:1 cannot be reached: Connection refused; is the endpoint running there?\n"


def test_a_breach_is_the_exit_status_and_the_last_second_is_told() -> None:
    async def play() -> tuple[int | None, str, str]:
        async with serving(ShowsEndedRooms().react) as target:
            url = f"http://127.0.0.1:{target.port}"
            arguments = [each for each in BUSY if each != "--quiet"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(SCRIPT), url, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            said, problems = await process.communicate()
            return process.returncode, said.decode(), problems.decode()

    status, said, problems = run(play())
    assert status == 1
    assert json.loads(said)["not_live_shown"] > 0
    assert "failed: " in problems
    assert "must not be any more" in problems
