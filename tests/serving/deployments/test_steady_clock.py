"""Turning the machine's clock back refuses no events, and undoes none."""

import time

import pytest

from serving.api.routes import create_api
from serving.deployments import steady_clock
from serving.deployments.endpoint import Endpoint
from serving.deployments.steady_clock import SteadyClock
from serving.settings import Settings
from tests.serving.conftest import TestClient

HOUR_MS = 3_600_000
BEGIN_MS = 500_000 * HOUR_MS


class Machine:
    """A machine whose clock shows what somebody has set."""

    def __init__(self) -> None:
        self.wall_ms, self.passed_ms = BEGIN_MS, 77

    def go_on(self, ms: int) -> None:
        self.wall_ms += ms
        self.passed_ms += ms

    def clock(self) -> SteadyClock:
        return SteadyClock(wall_ns=lambda: self.wall_ms * 10**6, monotonic_ns=lambda: self.passed_ms * 10**6)


def test_it_follows_forward_and_goes_on_by_itself_when_turned_back() -> None:
    machine = Machine()
    clock = machine.clock()
    assert clock() == BEGIN_MS
    machine.go_on(1_000)
    assert clock() == BEGIN_MS + 1_000
    machine.wall_ms -= HOUR_MS
    assert clock() == BEGIN_MS + 1_000
    machine.go_on(500)
    assert clock() == BEGIN_MS + 1_500
    machine.wall_ms += 3 * HOUR_MS
    assert clock() == BEGIN_MS + 1_500 + 2 * HOUR_MS


def test_an_endpoint_takes_events_although_its_clock_was_turned_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned_back_ns = 0
    monkeypatch.setattr(
        steady_clock.time, "time_ns", lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) - turned_back_ns
    )

    def post(client: TestClient, event_type: str, **columns: object) -> str:
        at_ms = time.clock_gettime_ns(time.CLOCK_REALTIME) // 10**6
        event = {"event_id": f"{event_type} {columns}", "event_type": event_type, "occurred_at_ms": at_ms}
        return str(client.post("/v1/events", json=[event | columns]).json()["results"][0]["status"])

    with TestClient(create_api(Endpoint.open(settings))) as client:
        asked = {"user_id": "u1", "surface": "room_products", "room_id": "r1"}
        assert post(client, "room_start", room_id="r1", streamer_id="mia") == "accepted"
        assert post(client, "product_listed", room_id="r1", product_id="silk", stock=3) == "accepted"
        assert len(client.post("/v1/recommendations", json=asked).json()["items"]) == 1
        turned_back_ns = HOUR_MS * 10**6
        assert post(client, "stock_changed", product_id="silk", stock=0) == "accepted"
        assert client.post("/v1/recommendations", json=asked).json()["items"] == []
