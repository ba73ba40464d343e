"""Models, viewers, health and metrics over HTTP."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from roomrec.bundle import Registry
from roomrec.errors import BundleError, RegistryError
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS


@pytest.fixture
def own_registry(tmp_path: Path, registry_path: Path) -> Path:
    """A copy of the registry that a test may change."""
    return Path(shutil.copytree(registry_path, tmp_path / "registry"))


@pytest.fixture
def own_settings(tmp_path: Path, own_registry: Path) -> Settings:
    return Settings(registry=str(own_registry), data=str(tmp_path / "serving"), poll_ms=20, history_limit=50)


@pytest.fixture
def operator(own_settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_api(Endpoint.open(own_settings, now_ms=lambda: NOW_MS))) as client:
        client.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
        yield client


def feed(client: TestClient) -> tuple[str, str]:
    slate = client.post("/v1/recommendations", json={"user_id": "u1", "k": 1}).json()
    return slate["model_version"], slate["items"][0]["room_id"]


def wait_until(happened: Callable[[], object]) -> bool:
    """Say whether something happened within seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if happened():
            return True
        time.sleep(0.02)
    return False


def wait_for_version(client: TestClient, version: str) -> bool:
    return wait_until(lambda: feed(client)[0] == version)


def test_promote_and_rollback(operator: TestClient) -> None:
    first, second = operator.get("/v1/models").json()["versions"]
    assert feed(operator) == (first, "tool-room")
    answer = operator.post(f"/v1/models/{second}:promote")
    assert answer.status_code == 200
    assert (answer.json()["champion"], answer.json()["serving"]["version"]) == (second, second)
    assert feed(operator) == (second, "tool-room")
    assert operator.post("/v1/models:rollback").json()["champion"] == first
    assert feed(operator) == (first, "tool-room")
    assert operator.post("/v1/models:rollback").status_code == 404


def test_a_promotion_by_somebody_else_is_followed(operator: TestClient, own_registry: Path) -> None:
    second = Registry(own_registry).versions()[1]
    Registry(own_registry).promote(second)
    assert wait_for_version(operator, second)


def test_a_version_that_does_not_exist(operator: TestClient) -> None:
    answer = operator.post("/v1/models/nonsense:promote")
    assert answer.status_code == 404
    assert "nonsense" in answer.json()["detail"]
    assert operator.post("/v1/models/..%2f..%2fetc:promote").status_code == 404


def test_an_altered_bundle_never_gets_in_and_says_why(operator: TestClient, own_registry: Path) -> None:
    first, second = Registry(own_registry).versions()
    file = Registry(own_registry).path(second) / "user_encoder.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    answer = operator.post(f"/v1/models/{second}:promote")
    assert answer.status_code == 409
    assert "user_encoder.onnx has sha256" in answer.json()["detail"]
    assert Registry(own_registry).channel("champion") == first
    assert feed(operator)[0] == first


def test_a_bundle_that_matches_its_hashes_but_does_not_run_never_gets_in(
    operator: TestClient, own_registry: Path, tmp_path: Path
) -> None:
    from roomrec.bundle.manifest import Manifest, hash_files

    registry = Registry(own_registry)
    first, second = registry.versions()
    folder = tmp_path / "broken"
    shutil.copytree(registry.path(second), folder)
    (folder / "item_encoder.onnx").write_bytes(b"not a graph")
    manifest = Manifest.read(folder)
    manifest.files.update(hash_files(folder))
    manifest.write(folder)
    answer = operator.post(f"/v1/models/{registry.publish(folder)}:promote")
    assert answer.status_code == 409
    assert "item_encoder.onnx cannot be loaded" in answer.json()["detail"]
    assert Registry(own_registry).channel("champion") == first


def test_a_bundle_that_needs_more_history_than_is_kept_never_gets_in(tmp_path: Path, own_registry: Path) -> None:
    settings = Settings(registry=str(own_registry), data=str(tmp_path / "serving"), history_limit=19)
    with pytest.raises(BundleError, match="ROOMREC_HISTORY_LIMIT=20"):
        Endpoint.open(settings)


def test_a_champion_that_cannot_be_loaded_leaves_the_one_before_at_work(
    own_settings: Settings, own_registry: Path
) -> None:
    first, second = Registry(own_registry).versions()
    Registry(own_registry).promote(second)
    (Registry(own_registry).path(first) / "user_encoder.onnx").write_bytes(b"broken")
    with TestClient(create_api(Endpoint.open(own_settings, now_ms=lambda: NOW_MS))) as operator:
        operator.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
        channels = own_registry / "channels.json"
        channels.write_text(channels.read_text().replace(second, first))
        assert wait_until(lambda: operator.get("/v1/models").json()["load_failure"])
        assert "cannot be loaded" in operator.get("/v1/models").json()["load_failure"]
        assert feed(operator)[0] == second
        assert operator.get("/readyz").status_code == 200
        assert "roomrec_champion_not_loaded 1.0" in operator.get("/metrics").text


def test_without_a_champion_it_does_not_start_unless_told_to(tmp_path: Path) -> None:
    settings = {"registry": str(tmp_path / "none"), "data": str(tmp_path / "serving")}
    with pytest.raises(RegistryError, match="has no champion"):
        Endpoint.open(Settings(**settings))
    endpoint = Endpoint.open(Settings(**settings, allow_no_model=True), now_ms=lambda: NOW_MS)
    with TestClient(create_api(endpoint)) as client:
        client.post("/v1/events", json=[*opening(), enter("u1", "tool-room", "tom")])
        slate = client.post("/v1/recommendations", json={"user_id": "u1"}).json()
        assert (slate["degraded"], slate["model_version"], len(slate["items"])) == ("no_model", None, 3)
        assert slate["items"][0]["room_id"] == "tool-room"
        asked = {"user_id": "u1", "surface": "room_products", "room_id": "scarf-room"}
        assert len(client.post("/v1/recommendations", json=asked).json()["items"]) == 2


def test_a_graph_that_throws_degrades_and_does_not_break(operator: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.deployments.encoders import Encoders
    from serving.deployments.viewer_encoder import ViewerEncoder

    def throw(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(ViewerEncoder, "encode", throw)
    monkeypatch.setattr(Encoders, "encode_items", throw)
    slate = operator.post("/v1/recommendations", json={"user_id": "u1"}).json()
    assert (slate["degraded"], slate["step"]) == ("model_failed", "popular")
    assert len(slate["items"]) == 3
    operator.post("/v1/events", json=[event("room_end", room_id="tool-room")])
    slate = operator.post("/v1/recommendations", json={"user_id": "u1"}).json()
    assert {item["room_id"] for item in slate["items"]} == {"scarf-room", "quiet-room"}


def test_what_is_known_of_a_viewer_and_forgetting_it(operator: TestClient, own_settings: Settings) -> None:
    operator.post("/v1/events", json=[event("follow", user_id="u1", streamer_id="mia")])
    known = operator.get("/v1/users/u1").json()
    assert known["followed_streamers"] == ["mia"]
    assert sorted(past["event_type"] for past in known["history"]) == ["enter", "follow"]
    receipt = operator.delete("/v1/users/u1").json()
    assert receipt["removed"]["state"].pop("bytes_overwritten") > 0
    assert receipt["removed"] == {
        "event_log": {"events": 2},
        "state": {"history_events": 2, "follows": 1, "refusals": 0},
        "slates": {"slates": 0},
        "exports": {"rows": 0, "files_written_again": 0},
    }
    assert receipt["erased_at_ms"] == NOW_MS
    assert receipt["not_removed"]
    assert operator.get("/v1/users/u1").status_code == 404
    assert operator.post("/v1/recommendations", json={"user_id": "u1"}).json()["degraded"] == "unknown_user"
    assert operator.delete("/v1/users/u1").json()["removed"]["event_log"] == {"events": 0}
    assert b'"u1"' not in own_settings.event_log_path.read_bytes()


def test_strange_viewer_ids_in_the_path(operator: TestClient) -> None:
    assert operator.get("/v1/users/" + "x" * 5_000).status_code == 404
    assert operator.get("/v1/users/%FF%00").status_code == 404
    answer = operator.delete("/v1/users/" + "x" * 200)
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["path", "user_id"])
    assert operator.get("/v1/users/").status_code == 404
    assert operator.delete("/v1/users/").status_code == 422


@pytest.mark.parametrize("user_id", ["a/b", "a/", "/", "a?b#c", "100%", ".."])
def test_viewers_are_found_and_forgotten_whatever_their_id(operator: TestClient, user_id: str) -> None:
    operator.post("/v1/events", json=[enter(user_id, "scarf-room", "mia")])
    path = "/v1/users/" + "".join(f"%{byte:02X}" for byte in user_id.encode())
    assert operator.get(path).json()["user_id"] == user_id
    assert operator.delete(path).json()["removed"]["event_log"] == {"events": 1}
    assert operator.get(path).status_code == 404


def test_health_and_readiness(operator: TestClient) -> None:
    assert operator.get("/healthz").json() == {"status": "alive"}
    assert operator.get("/readyz").json() == {"status": "ready"}


def test_metrics_count_and_have_few_labels(operator: TestClient) -> None:
    operator.post("/v1/recommendations", json={"user_id": "u1"})
    operator.post("/v1/recommendations", json={"user_id": ""})
    operator.get("/v1/users/somebody-secret")
    operator.get("/no/such/path")
    text = operator.get("/metrics").text
    assert 'roomrec_requests_total{route="/v1/recommendations",status="200"} 1.0' in text
    assert 'roomrec_requests_total{route="/v1/recommendations",status="422"} 1.0' in text
    assert 'roomrec_requests_total{route="none",status="404"} 1.0' in text
    assert 'roomrec_degraded_total{reason="fewer_than_k",step="full"} 1.0' in text
    assert 'roomrec_events_total{status="accepted"} 7.0' in text
    assert "roomrec_live_rooms 3.0" in text
    assert 'roomrec_requests_total{route="/v1/users/{user_id}",status="404"} 1.0' in text
    assert "somebody-secret" not in text


def test_the_openapi_page_knows_every_route(operator: TestClient) -> None:
    page = operator.get("/docs").text
    assert "https://" not in page  # it is read where nothing but the endpoint can be reached
    for script in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert operator.get(script).status_code == 200
    paths = operator.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/recommendations",
        "/v1/events",
        "/v1/models",
        "/v1/models/{version}:promote",
        "/v1/models/{version}:canary",
        "/v1/models:rollback",
        "/v1/rooms",
        "/v1/rooms/{room_id}",
        "/v1/users/{user_id}",
        "/v1/erasures",
        "/healthz",
        "/readyz",
        "/metrics",
    }


@pytest.mark.parametrize("user_id", ["a/b", "a\nb", "a\n", "\r\n", "?#%", "ü;,"])
def test_a_viewer_with_any_id_can_be_read_and_erased(client: TestClient, user_id: str) -> None:
    event = {"event_id": "odd", "event_type": "follow", "occurred_at_ms": NOW_MS, "streamer_id": "mia"}
    assert client.post("/v1/events", json=[event | {"user_id": user_id}]).json()["accepted"] == 1
    path = f"/v1/users/{quote(user_id, safe='')}"
    assert client.get(path).json()["user_id"] == user_id
    assert client.delete(path).json()["user_id"] == user_id
    assert client.get(path).status_code == 404
