"""Whatever clients send, whether it is answered, refused or fails: nothing of it is in a log or on standard error."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.access.guard import Guard
from serving.api.application import RoomRecApplication
from serving.deployments.endpoint import Endpoint
from serving.http.listener import Listener
from serving.http.shared_socket import SharedSocket
from serving.privacy.quiet_logs import QuietFormatter, describe_error, log_quietly
from serving.settings import Settings
from tests.serving.access.keys import FRONTEND, OPERATOR, write_access_file
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS

MARK = "zebra-0815"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a replica would write to standard error, at the most talkative level."""
    root = logging.getLogger()
    handlers, level, hooks = list(root.handlers), root.level, (sys.excepthook, threading.excepthook, sys.unraisablehook)
    stream = io.StringIO()
    log_quietly(stream)
    root.setLevel(logging.DEBUG)
    for name in ("httpx", "httpcore"):  # the client of these tests
        logging.getLogger(name).setLevel(logging.CRITICAL)
    yield stream
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


@pytest.fixture
def endpoint(settings: Settings) -> Endpoint:
    return Endpoint.open(settings, now_ms=lambda: NOW_MS)


@pytest.fixture
def client(endpoint: Endpoint, log: io.StringIO, tmp_path: Any) -> Iterator[httpx.Client]:
    shared = SharedSocket("127.0.0.1", 0)
    guard = Guard(write_access_file(tmp_path / "access.toml", frontend="requests_per_s = 1000"))
    listener = Listener(RoomRecApplication(endpoint, address=("127.0.0.1", 0), guard=guard), shared.socket)
    listener.start()
    port = shared.socket.getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        yield client
    listener.stop(drain_s=0)
    shared.close()


def web(client: httpx.Client, path: str, body: Any) -> int:
    return client.post(path, content=json.dumps(body), headers={"x-api-key": FRONTEND}).status_code


def ops(client: httpx.Client, method: str, path: str, **more: Any) -> int:
    return client.request(method, path, headers={"authorization": f"Bearer {OPERATOR}"}, **more).status_code


def ask_everything(client: httpx.Client) -> list[int]:
    """Marked content in every place of every route."""
    marked = [
        enter(MARK, "scarf-room", "mia", context={"note": MARK}),
        enter(MARK, MARK, MARK, event_id=f"id-{MARK}"),
        event(MARK, user_id=MARK),
        event("enter", user_id=[MARK]),
        event("order", user_id=MARK, product_id=MARK, amount_cents=MARK),
        MARK,
        {"event_id": MARK * 100},
    ]
    return [
        web(client, "/v1/events", opening() + marked),
        web(client, "/v1/events", MARK),
        web(client, "/v1/recommendations", {"user_id": MARK, "context": {"device": MARK}}),
        web(client, "/v1/recommendations", {"user_id": MARK, "surface": "room_products", "room_id": MARK}),
        web(client, "/v1/recommendations", {"user_id": MARK, "k": MARK}),
        web(client, "/v1/recommendations", {"user_id": MARK, "surface": MARK, MARK: MARK}),
        web(client, "/v1/recommendations", MARK),
        web(client, f"/v1/{MARK}?{MARK}={MARK}", MARK),
        ops(client, "GET", f"/v1/users/{MARK}"),
        ops(client, "GET", f"/v1/users/{MARK}{MARK}?{MARK}"),
        ops(client, "DELETE", f"/v1/users/{MARK}"),
        ops(client, "DELETE", f"/v1/users/{MARK * 50}"),
        ops(client, "GET", f"/v1/erasures?limit={MARK}"),
        ops(client, "POST", f"/v1/models/{MARK}:promote", content=MARK),
        ops(client, "GET", f"/v1/rooms/{MARK}"),
        ops(client, "GET", f"/{MARK}"),
        ops(client, "POST", f"/{MARK}"),
        ops(client, "GET", "/metrics"),
        client.get("/v1/models", headers={"x-api-key": MARK}).status_code,
        client.get("/v1/models", headers={"authorization": f"Bearer {MARK}.{MARK}.{MARK}"}).status_code,
    ]


def test_nothing_that_was_sent_is_logged(
    client: httpx.Client, log: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses = ask_everything(client)
    assert {200, 401, 403, 404, 422} <= set(statuses)
    assert not [status for status in statuses if status >= 500]
    said = log.getvalue() + "".join(capfd.readouterr())
    assert MARK not in said


def test_not_when_everything_fails_either(
    client: httpx.Client,
    endpoint: Endpoint,
    log: io.StringIO,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The errors quote what was sent, as those of Python and of libraries do."""

    def fail(*given: Any, **named: Any) -> Any:
        try:
            raise KeyError(f"{MARK}: {given} {named}")
        except KeyError as error:
            raise ValueError(f"cannot work with {given} {named}") from error

    async def fail_later(*given: Any, **named: Any) -> Any:
        fail(*given, **named)

    for name in ("recommend", "user", "room", "erasures"):
        monkeypatch.setattr(endpoint, name, fail)
    for name in ("post", "erase_user"):
        monkeypatch.setattr(endpoint, name, fail_later)
    statuses = ask_everything(client)
    assert statuses.count(500) >= 5
    said = log.getvalue() + "".join(capfd.readouterr())
    assert MARK not in said
    assert "KeyError" in said
    assert "which caused" in said
    assert "ValueError" in said
    assert "test_quiet_logs.py" in said


def test_a_writer_that_fails_says_nothing_of_what_it_was_to_write(
    client: httpx.Client, endpoint: Endpoint, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(events: Any) -> Any:
        raise ValueError(f"cannot store {events}")

    monkeypatch.setattr(endpoint._writer._log, "append", fail)
    assert web(client, "/v1/events", [enter(MARK, "scarf-room", "mia")]) == 500
    assert MARK not in log.getvalue()
    assert "ValueError" in log.getvalue()


def test_an_error_is_told_by_kind_and_place() -> None:
    try:
        try:
            raise KeyError(MARK)
        except KeyError:
            raise RuntimeError(MARK)  # noqa: B904
    except RuntimeError as error:
        lines = describe_error(error).splitlines()
    assert [line for line in lines if not line.startswith("  ")] == ["KeyError", "which caused", "RuntimeError"]
    assert all("test_quiet_logs.py" in line for line in lines if line.startswith("  "))
    assert describe_error(None) == ""


def test_threads_that_die_are_quiet_too(log: io.StringIO) -> None:
    def die() -> None:
        raise KeyError(MARK)

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    assert "KeyError" in log.getvalue()
    assert MARK not in log.getvalue()


def test_what_another_formatter_made_of_an_error_does_not_count() -> None:
    try:
        raise KeyError(MARK)
    except KeyError as error:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "said", (), (KeyError, error, error.__traceback__))
    logging.Formatter().format(record)
    assert MARK in (record.exc_text or "")
    assert MARK not in QuietFormatter().format(record)
