"""Two real replicas on one port of this machine: what one accepts, the other knows."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from roomrec.bundle import Registry
from serving.settings import Settings
from serving.state.sqlite_event_log import SqliteEventLog
from tests.serving.shop import publish_two

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


class Shop:
    """The running endpoint, asked so often that every replica gets its turn."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry(settings.registry_path)
        self.url = f"http://{settings.host}:{settings.port}"
        self._count = 0

    def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        """A connection of its own each time, so that any replica may take it."""
        return httpx.request(method, self.url + path, timeout=30, **kwargs)

    def post(self, event_type: str, **columns: Any) -> None:
        self._count += 1
        event = {"event_id": f"e{self._count}", "event_type": event_type, "occurred_at_ms": time.time_ns() // 10**6}
        answer = self.ask("POST", "/v1/events", json=[event | columns])
        assert answer.json()["accepted"] == 1, answer.text

    def feeds(self, user_id: str, *, times: int = 12) -> list[list[str]]:
        slates = [self.ask("POST", "/v1/recommendations", json={"user_id": user_id}).json() for _ in range(times)]
        return [[item["room_id"] for item in slate["items"]] for slate in slates]

    def versions_serving(self, *, times: int = 20) -> set[str]:
        return {self.ask("GET", "/v1/models").json()["serving"]["version"] for _ in range(times)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    import ray
    from ray import serve

    from serving.app import build_app

    folder = tmp_path_factory.mktemp("ray")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(
        registry=str(publish_two(folder)), data=str(folder / "serving"), port=port, replicas=2, poll_ms=100
    )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", num_cpus=2)
    serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False})
    serve.run(build_app(msgspec.to_builtins(settings)), name="roomrec", route_prefix=None)
    yield Shop(settings)
    serve.shutdown()
    ray.shutdown()


def test_it_is_ready(shop: Shop) -> None:
    assert shop.ask("GET", "/readyz").json() == {"status": "ready"}


def test_what_one_replica_accepts_every_replica_shows_at_once(shop: Shop) -> None:
    shop.post("room_start", room_id="r1", streamer_id="mia")
    assert shop.feeds("u1") == [["r1"]] * 12
    shop.post("room_start", room_id="r2", streamer_id="tom")
    shop.post("enter", user_id="u1", room_id="r2", streamer_id="tom")
    assert shop.feeds("u1") == [["r2", "r1"]] * 12
    shop.post("room_end", room_id="r2")
    assert shop.feeds("u1") == [["r1"]] * 12


def test_more_than_one_replica_answered(shop: Shop) -> None:
    pages = [shop.ask("GET", "/metrics").text for _ in range(20)]
    counts_since = {re.search(r'roomrec_requests_created{route="/metrics",status="200"} (\S+)', page) for page in pages}
    assert len({found.group(1) for found in counts_since if found}) == 2


def test_a_sold_out_product_is_gone_from_every_replica_at_once(shop: Shop) -> None:
    shop.post("room_start", room_id="r3", streamer_id="mia")
    shop.post("product_listed", room_id="r3", product_id="silk", stock=1)
    asked = {"user_id": "u1", "surface": "room_products", "room_id": "r3"}

    def shown() -> set[str]:
        slates = [shop.ask("POST", "/v1/recommendations", json=asked).json() for _ in range(12)]
        return {item["product_id"] for slate in slates for item in slate["items"]}

    assert shown() == {"silk"}
    shop.post("stock_changed", product_id="silk", stock=0)
    assert shown() == set()


def test_an_event_logged_by_a_process_that_died_is_found(shop: Shop) -> None:
    shop.post("room_start", room_id="r4", streamer_id="zoe")
    log = SqliteEventLog(shop.settings.event_log_path)
    body = {"event_id": "orphan", "event_type": "room_end", "occurred_at_ms": 1, "received_at_ms": 1, "room_id": "r4"}
    log.append([body])
    log.close()
    deadline = time.monotonic() + 10
    while any("r4" in feed for feed in shop.feeds("u1")):
        assert time.monotonic() < deadline


def test_a_bad_bundle_is_refused_and_a_good_one_reaches_every_replica(shop: Shop) -> None:
    first, second = shop.registry.versions()
    file = shop.registry.path(second) / "user_encoder.onnx"
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    assert shop.ask("POST", f"/v1/models/{second}:promote").status_code == 409
    assert shop.versions_serving() == {first}
    file.write_bytes(good)
    assert shop.ask("POST", f"/v1/models/{second}:promote").json()["champion"] == second
    deadline = time.monotonic() + 10
    while shop.versions_serving() != {second}:
        assert time.monotonic() < deadline
    assert shop.ask("POST", "/v1/models:rollback").json()["champion"] == first
    while shop.versions_serving() != {first}:
        assert time.monotonic() < deadline + 10


def test_rebuilding_the_state_is_followed_by_running_replicas(shop: Shop, tmp_path: Path) -> None:
    import subprocess
    import sys

    before = shop.feeds("u1", times=4)
    command = [sys.executable, "-m", "serving", "rebuild-state", "--data", shop.settings.data]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "state rebuilt" in done.stdout
    assert shop.feeds("u1", times=8) == before * 2
