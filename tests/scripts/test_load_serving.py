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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from rich.console import Console

from scripts.load_serving import display, evening
from scripts.load_serving.checks import is_pushed_out
from scripts.load_serving.options import read_options, stretches
from scripts.load_serving.reporting import read_ledger
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.scripts.load_serving_servers import NaiveEndpoint, Talk, answer, run, serving
from tests.serving.shop import publish_two

SCRIPT = Path(__file__).parents[2] / "scripts" / "load-serving"
SHORT = ["--duration", "1.5", "--warmup", "0.2", "--rate", "150", "--drain", "5", "--quiet"]
SHORT += ["--rooms", "8", "--products", "5", "--viewers", "50"]
BUSY = [*SHORT, "--room-changes-per-second", "60", "--probe-share", "1", "--read-back-share", "0.5"]


def load(endpoint: NaiveEndpoint, *arguments: str) -> dict[str, Any]:
    """Play an evening against an endpoint of this process."""

    async def play() -> dict[str, Any]:
        async with serving(endpoint.react) as target:
            return await evening.run(read_options([f"http://{target.host}:{target.port}", *arguments]))

    return run(play())


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
