"""Nothing a request contains crashes the endpoint: any bytes, any JSON, any path."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, opening
from tests.serving.shop import NOW_MS

FIELDS = ("event_id", "event_type", "occurred_at_ms", "user_id", "room_id", "streamer_id", "product_id", "stock",
          "watch_time_ms", "amount_cents", "position", "propensity", "context", "surface", "k")  # fmt: skip
ROUTES = ("/v1/recommendations", "/v1/events", "/v1/models/x:promote", "/v1/users/u1", "/nowhere")

numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**31, 2**63, -(2**63), 10**400])
texts = st.text(max_size=200) | st.sampled_from(["u1", "r1", "room_start", "enter", "room_feed", "\x00", "\ud800"])
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | texts, inner, max_size=8),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def victim(registry_path: Path) -> Iterator[TestClient]:
    with tempfile.TemporaryDirectory() as folder:
        endpoint = Endpoint.open(Settings(registry=str(registry_path), data=folder), now_ms=lambda: NOW_MS)
        with TestClient(create_api(endpoint), raise_server_exceptions=False) as client:
            client.post("/v1/events", json=[*opening(), enter("survivor", "tool-room", "tom")])
            yield client


def survives(client: TestClient) -> bool:
    slate = client.post("/v1/recommendations", json={"user_id": "survivor", "k": 3}).json()
    return slate["degraded"] is None and len(slate["items"]) == 3


def dump(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@settings(max_examples=150, deadline=None)
@given(route=st.sampled_from(ROUTES), body=st.binary(max_size=300) | values.map(dump))
def test_any_body(victim: TestClient, route: str, body: bytes) -> None:
    for method in ("POST", "PUT", "DELETE") if "users" in route else ("POST",):
        assert victim.request(method, route, content=body).status_code < 500
    assert survives(victim)


@settings(max_examples=150, deadline=None)
@given(events=st.lists(st.dictionaries(st.sampled_from(FIELDS), leaves, max_size=12), max_size=3), k=leaves)
def test_fields_of_any_kind(victim: TestClient, events: list[dict[str, Any]], k: Any) -> None:
    answer = victim.post("/v1/events", content=dump(events))
    assert answer.status_code in {200, 422}
    asked = {"user_id": "u1", "k": k, "surface": "room_feed"} | (events[0] if events else {})
    assert victim.post("/v1/recommendations", content=dump(asked)).status_code in {200, 422}
    assert survives(victim)


@settings(max_examples=100, deadline=None)
@given(
    path=st.text(alphabet="abc/.:%0FfE{}?#&=\u00e9 ", max_size=40), method=st.sampled_from(["GET", "DELETE", "PATCH"])
)
def test_any_path(victim: TestClient, path: str, method: str) -> None:
    assert victim.request(method, "http://testserver/v1/" + path.lstrip("/")).status_code < 500
    assert survives(victim)


@pytest.mark.parametrize("depth", [50, 1_000, 100_000])
@pytest.mark.parametrize("route", ["/v1/recommendations", "/v1/events"])
def test_deeply_nested_junk(victim: TestClient, route: str, depth: int) -> None:
    if depth == 100_000 and route == "/v1/recommendations":
        depth = 10_000
    nested = b'{"context":' * depth + b"1" + b"}" * depth
    assert victim.post(route, content=nested).status_code in {200, 413, 422}
    assert victim.post(route, content=b"[" * depth + b"]" * depth).status_code in {200, 413, 422}
    assert survives(victim)
