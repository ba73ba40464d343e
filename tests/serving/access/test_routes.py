"""The guard stands before every route there is."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.access.guard import Guard
from serving.access.roles import OPEN_PATHS
from serving.api.application import RoomRecApplication
from serving.deployments.endpoint import Endpoint
from serving.http.listener import Listener
from serving.http.shared_socket import SharedSocket
from serving.settings import Settings
from tests.serving.access.keys import AUDITOR, FRONTEND, OPERATOR, write_access_file
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    return Guard(write_access_file(tmp_path / "access.toml", frontend="requests_per_s = 0.001\nburst = 40"))


@pytest.fixture
def client(settings: Settings, guard: Guard) -> Iterator[httpx.Client]:
    endpoint = Endpoint.open(settings, now_ms=lambda: NOW_MS)
    shared = SharedSocket("127.0.0.1", 0)
    listener = Listener(RoomRecApplication(endpoint, address=("127.0.0.1", 0), guard=guard), shared.socket)
    listener.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{shared.socket.getsockname()[1]}") as client:
        yield client
    listener.stop(drain_s=0)
    shared.close()


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


def test_no_route_is_forgotten(client: httpx.Client) -> None:
    page = client.get("/openapi.json", headers=key(AUDITOR)).json()
    routes = [(method.upper(), path) for path, methods in page["paths"].items() for method in methods]
    assert len(routes) > 10
    for method, path in [*routes, ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/no/such/path")]:
        answer = client.request(method, path.replace("{", "").replace("}", ""))
        assert (answer.status_code == 401) == (path not in OPEN_PATHS), (method, path)
        # an auditor changes nothing
        if method != "GET":
            answer = client.request(method, path.replace("{", "").replace("}", ""), headers=key(AUDITOR))
            assert answer.status_code == 403, (method, path)


def test_each_role_does_its_work(client: httpx.Client) -> None:
    slate = client.post("/v1/recommendations", json={"user_id": "u1"}, headers=key(FRONTEND))
    assert slate.status_code == 200
    assert client.post("/v1/events", content=b"[]", headers=key(FRONTEND)).status_code == 200
    assert client.get("/v1/models", headers=key(AUDITOR)).status_code == 200
    assert client.get("/metrics", headers=key(AUDITOR)).status_code == 200
    assert client.get("/docs", headers=key(FRONTEND)).status_code == 200
    assert client.delete("/v1/users/u1", headers=key(OPERATOR)).status_code == 200
    assert client.get("/v1/erasures", headers=key(AUDITOR)).json()["erasures"]
    refused = client.get("/v1/models", headers=key(FRONTEND))
    assert (refused.status_code, refused.headers["content-type"]) == (403, "application/json")
    assert refused.json() == {
        "detail": "GET here needs the role auditor or operator; the role of 'web' is frontend",
    }


def test_a_frontend_reports_what_viewers_do_and_ends_no_room(client: httpx.Client) -> None:
    assert client.post("/v1/events", json=opening(), headers=key(OPERATOR)).json()["accepted"] == 6
    reports = [
        enter("u1", "scarf-room", "mia"),
        event("room_end", room_id="scarf-room", event_id="end"),
        event("stock_changed", product_id="silk", stock=0),
        event(["room_end"], room_id="scarf-room"),
    ]
    said = client.post("/v1/events", json=reports, headers=key(FRONTEND)).json()
    assert [each["reason"] for each in said["results"]] == [
        None,
        "not_allowed:event_type",
        "not_allowed:event_type",
        "not_a_string:event_type",
    ]
    assert said["results"][1]["event_id"] == "end"
    slate = client.post("/v1/recommendations", json={"user_id": "u2"}, headers=key(FRONTEND)).json()
    assert "scarf-room" in [item["room_id"] for item in slate["items"]]


def test_who_is_not_known_is_not_read_at_length(settings: Settings, guard: Guard) -> None:
    endpoint = Endpoint.open(settings, now_ms=lambda: NOW_MS)
    application = RoomRecApplication(endpoint, address=("127.0.0.1", 0), guard=guard)
    known = {b"x-api-key": FRONTEND.encode()}
    assert application.max_body_bytes(b"/v1/events", known) == settings.max_body_bytes
    assert application.max_body_bytes(b"/v1/events", {}) == 64 << 10
    assert application.max_body_bytes(b"/v1/events", {b"x-api-key": b"guessed"}) == 64 << 10
    endpoint.close_files()


def test_a_path_in_disguise_is_the_path_it_is(client: httpx.Client) -> None:
    for path in ("/v1/%75sers/u1", "/v1%2Fusers/u1", "/%76%31/users/u1", "//v1/users/u1", "/healthz/../v1/users/u1"):
        request = client.build_request("DELETE", path, headers=key(FRONTEND))
        assert client.send(request).status_code in (403, 404), path


def test_who_asks_too_often_is_told_when_to_come_back(client: httpx.Client) -> None:
    answers = [client.post("/v1/recommendations", json={"user_id": "u1"}, headers=key(FRONTEND)) for _ in range(42)]
    assert [answer.status_code for answer in answers] == [200] * 40 + [429] * 2
    assert 990 <= int(answers[-1].headers["retry-after"]) <= 1000
    assert 'route="none",status="429"} 2.0' in client.get("/metrics", headers=key(AUDITOR)).text
