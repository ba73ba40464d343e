"""Events over HTTP: every line gets its own answer, and an accepted one is there for good."""

import asyncio
import gc
import json
import time
from pathlib import Path

import pytest
from fastapi import HTTPException

from serving.api.bodies import MALFORMED, TOO_LONG, decode_event, split_events
from serving.api.metrics import Metrics
from serving.api.routes import create_api
from serving.api.routes.events import post_events
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, opening
from tests.serving.shop import NOW_MS


def statuses(answer: object) -> list[tuple[str, str | None]]:
    return [(each["status"], each["reason"]) for each in answer.json()["results"]]


def test_each_event_gets_its_answer(client: TestClient) -> None:
    good = enter("u1", "r1", "mia")
    bad = enter("u1", "r1", "mia")
    del bad["room_id"]
    answer = client.post("/v1/events", json=[good, bad, good, 7, None, []])
    assert answer.status_code == 200
    assert statuses(answer) == [
        ("accepted", None),
        ("rejected", "missing:room_id"),
        ("duplicate", None),
        ("rejected", "not_an_object"),
        ("rejected", "not_an_object"),
        ("rejected", "not_an_object"),
    ]
    assert {name: answer.json()[name] for name in ("accepted", "duplicate", "rejected")} == {
        "accepted": 1,
        "duplicate": 1,
        "rejected": 4,
    }


def test_a_bad_line_rejects_that_line_only(client: TestClient) -> None:
    lines = [json.dumps(enter("u1", "r1", "mia")).encode(), b"{nonsense", b'{"event_id": "\xff"}', b""]
    lines.append(json.dumps(enter("u1", "r1", "mia")).encode())
    answer = client.post("/v1/events", content=b"\r\n".join(lines), headers={"content-type": "application/x-ndjson"})
    assert statuses(answer) == [
        ("accepted", None),
        ("rejected", "malformed_json"),
        ("rejected", "malformed_json"),
        ("accepted", None),
    ]
    assert len(client.get("/v1/users/u1").json()["history"]) == 2


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "image/png", "", "application/json; x=\xff"]
)
def test_the_body_counts_and_not_its_content_type(client: TestClient, content_type: str) -> None:
    body = json.dumps(enter("u1", "r1", "mia"), indent=2)
    headers = {"content-type": content_type.encode("latin-1")}
    assert statuses(client.post("/v1/events", content=body, headers=headers)) == [("accepted", None)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"[]", []),
        (b'[{"a": 1}, 2]', [{"a": 1}, 2]),
        (b'{"a": 1}', [{"a": 1}]),
        (b'{"a":\n 1}', [{"a": 1}]),
        (b'{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        (b"x\n1\n", [MALFORMED, 1]),
        (b"{" * 60_000, [MALFORMED]),
        (b"null", [None]),
    ],
)
def test_bodies_are_taken_apart(body: bytes, expected: list[object]) -> None:
    assert [decode_event(part) for part in split_events(body, max_events=2)] == expected


def test_text_that_is_not_unicode_spoils_one_event_only(client: TestClient) -> None:
    good = b'{"event_id": "good", "event_type": "room_end", "occurred_at_ms": 1, "room_id": "r"}'
    answer = client.post("/v1/events", content=b'[{"event_id": "\xff"}, ' + good + b"]").json()
    assert [(each["status"], each["reason"]) for each in answer["results"]] == [
        ("rejected", "malformed_json"),
        ("accepted", None),
    ]


@pytest.mark.parametrize("body", [b"", b"  \n ", b"[", b"[1,", b"[" * 100_000, b"[] []"])
def test_a_body_that_is_nothing_is_refused_as_a_whole(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/events", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"]


def test_too_long_a_body_is_refused(tmp_path: Path, registry_path: Path) -> None:
    settings = Settings(registry=str(registry_path), data=str(tmp_path), max_body_bytes=1_000, max_events=3)
    with TestClient(create_api(Endpoint.open(settings))) as client:
        assert client.post("/v1/events", content=b" " * 1_001).status_code == 413
        assert client.post("/v1/events", content=iter([b" " * 600, b" " * 600])).status_code == 413
        answer = client.post("/v1/events", json=[1, 2, 3, 4])
        assert answer.status_code == 413
        assert answer.json()["detail"] == "the body holds more than 3 events"
        assert client.post("/v1/events", json=[1, 2, 3]).status_code == 200
        assert client.post("/v1/events", content=b"{\n\n" * 3).json()["rejected"] == 3
        assert client.post("/v1/events", content=b"{\n" * 4).status_code == 413
        assert client.post("/v1/recommendations", content=b" " * 70_000).status_code == 413


def test_lines_beyond_the_limit_are_not_read() -> None:
    started = time.perf_counter()
    with pytest.raises(HTTPException):
        list(split_events(b"{\n" * 2_000_000, max_events=10))
    assert time.perf_counter() - started < 0.1  # reading all of them takes a second, in which nobody else is answered


@pytest.mark.parametrize(
    "body", [b"[" + b"1," * 4_000_000 + b"1]", b"{}" + b"\n" * 8_000_000 + b"{}", b"[[" + b"{}," * 2_000_000 + b"{}]]"]
)
def test_a_body_of_too_many_or_too_long_events_costs_next_to_nothing(body: bytes) -> None:
    gc.disable()
    try:
        started = time.perf_counter()
        with pytest.raises((HTTPException, ValueError)):
            list(split_events(body, max_events=10_000))
        assert time.perf_counter() - started < 0.1  # read whole they took 0.2 s and 290 MB
    finally:
        gc.enable()


def test_a_long_array_is_taken_apart_like_a_short_one() -> None:
    odd = [
        b'{"a": "],[ \\" {"}',
        b'{"b": [{"c": 1}, {}]}',
        b"null",
        b"-1.5e3",
        b'"\xc3\xa9"',
        b'{"e": "\xff"}',
        b"NaN",
        b"[]",
    ]
    short = list(split_events(b"[" + b" , ".join(odd[:6]) + b"]", max_events=9))
    assert [bytes(part) for part in short] == odd[:6]
    body = b" [ " + b" ,\n".join(odd * 5_000) + b" ] "
    parts = list(split_events(body, max_events=40_000))
    assert parts == odd * 5_000
    assert [decode_event(part) for part in parts[:8]] == [
        {"a": '],[ " {'},
        {"b": [{"c": 1}, {}]},
        None,
        -1500.0,
        "é",
        MALFORMED,
        MALFORMED,
        [],
    ]
    with pytest.raises(HTTPException, match="more than 39999 events"):
        list(split_events(body, max_events=39_999))
    for wrong in (body[:-2], body + b"]", body[:-2] + b",]", body.replace(b" ,\n", b" \n"), body[:300_000] + b"}"):
        with pytest.raises(ValueError, match="begins like a JSON array"):
            list(split_events(wrong, max_events=40_000))


def test_an_event_longer_than_any_is_rejected_alone() -> None:
    lines = b'{"a": [' + b"1," * 100_000 + b'1]}\n{"b": 1}'
    assert [decode_event(part) for part in split_events(lines, max_events=2)] == [TOO_LONG, {"b": 1}]
    assert [decode_event(part) for part in split_events(lines[:200_009], max_events=2)] == [TOO_LONG]


def test_a_long_body_of_events_lets_others_have_their_turn(settings: Settings) -> None:
    async def scene() -> float:
        endpoint = Endpoint.open(settings, now_ms=lambda: NOW_MS)
        longest, is_over = 0.0, False

        async def look() -> None:
            nonlocal longest
            while not is_over:
                started = time.perf_counter()
                await asyncio.sleep(0)
                longest = max(longest, time.perf_counter() - started)

        looking = asyncio.create_task(look())
        await asyncio.sleep(0)
        answer = await post_events(json.dumps([{"event_id": "x"}] * 10_000).encode(), endpoint, Metrics())
        is_over = True
        await looking
        await endpoint.close()
        results = json.loads(answer.body)
        assert (results["rejected"], len(results["results"])) == (10_000, 10_000)
        return longest

    gc.disable()
    try:
        assert asyncio.run(scene()) < 0.015
    finally:
        gc.enable()


def test_a_clock_that_is_far_ahead_is_rejected_and_a_little_is_set_right(client: TestClient) -> None:
    far = enter("u1", "r1", "mia") | {"occurred_at_ms": NOW_MS + 3_600_000}
    little = enter("u1", "r1", "mia") | {"occurred_at_ms": NOW_MS + 60_000}
    answer = client.post("/v1/events", json=[far, little])
    assert statuses(answer) == [("rejected", "occurred_in_future"), ("accepted", None)]
    assert client.get("/v1/users/u1").json()["history"][0]["occurred_at_ms"] == NOW_MS


def test_accepted_events_survive_a_restart(settings: Settings) -> None:
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        client.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        slate = client.post("/v1/recommendations", json={"user_id": "u1", "k": 1}).json()
        assert [item["room_id"] for item in slate["items"]] == ["tool-room"]


def test_when_the_log_cannot_be_written_the_answer_is_503_and_nothing_is_lost(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roomrec.errors import StateError
    from serving.state.sqlite_event_log import SqliteEventLog

    def fail(*_: object) -> None:
        raise StateError("event log cannot be written: disk full")

    event = enter("u1", "r1", "mia")
    with monkeypatch.context() as patch:
        patch.setattr(SqliteEventLog, "append", fail)
        answer = client.post("/v1/events", json=[event])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "disk full" in answer.json()["detail"]
    assert statuses(client.post("/v1/events", json=[event])) == [("accepted", None)]
