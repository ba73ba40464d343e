"""Versions, canaries and going back, over HTTP."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roomrec.bundle import Registry
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.serving.conftest import TestClient
from tests.serving.evening import enter, event, opening
from tests.serving.shop import NOW_MS
from tests.serving.versions import publish

MEASURED = {"dataset_fingerprint": "d1", "split": "test", "surface": "room_feed", "queries": 100}


@pytest.fixture
def registry(tmp_path: Path, registry_path: Path) -> Registry:
    return Registry(Path(shutil.copytree(registry_path, tmp_path / "registry")))


@pytest.fixture
def operator(tmp_path: Path, registry: Registry) -> Iterator[TestClient]:
    settings = Settings(
        registry=str(registry.root), data=str(tmp_path / "serving"), poll_ms=20, history_limit=50, model_failures=2
    )
    with TestClient(create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS))) as client:
        client.post("/v1/events", json=[*opening(), *(enter(f"u{n}", "tool-room", "tom") for n in range(20))])
        yield client


def answered(client: TestClient, user_id: str = "u1") -> tuple[str, str]:
    slate = client.post("/v1/recommendations", json={"user_id": user_id, "k": 1}).json()
    return slate["variant"], slate["model_version"]


def test_a_canary_from_its_start_to_its_end(operator: TestClient, registry: Registry) -> None:
    first, second = registry.versions()
    answer = operator.post(f"/v1/models/{second}:canary", json={"share": 0.5})
    assert answer.status_code == 200
    assert {key: answer.json()[key] for key in ("champion", "challenger", "share", "answering", "comparison")} == {
        "champion": first,
        "challenger": second,
        "share": 0.5,
        "answering": first,
        "comparison": "not compared: the manifest of the candidate holds no ndcg@10",
    }
    found = {answered(operator, f"u{n}") for n in range(20)}
    assert found == {("champion", first), ("challenger", second)}
    canary = operator.get("/v1/models").json()["canary"]
    assert (canary["version"], canary["variant"], canary["failed"]) == (second, "challenger", 0)
    assert canary["answered"] > 0
    answer = operator.delete(f"/v1/models/{second}:canary")
    assert (answer.status_code, answer.json()["challenger"], answer.json()["share"]) == (200, None, 0.0)
    assert {answered(operator, f"u{n}") for n in range(20)} == {("champion", first)}


def test_a_canary_that_wins_is_promoted_and_one_call_goes_back(operator: TestClient, registry: Registry) -> None:
    first, second = registry.versions()
    operator.post(f"/v1/models/{second}:canary", json={"share": 1})
    answer = operator.post(f"/v1/models/{second}:promote").json()
    assert (answer["champion"], answer["challenger"], answer["previous"]["version"]) == (second, None, first)
    assert answered(operator) == ("champion", second)
    answer = operator.post("/v1/models:rollback").json()
    assert (answer["champion"], answer["challenger"], answer["previous"]) == (first, None, None)
    assert answered(operator) == ("champion", first)


@pytest.mark.parametrize(
    "body", [{}, {"share": -0.1}, {"share": 1.5}, {"share": "0.5"}, {"share": None}, [], "x", None]
)
def test_a_wrong_share_is_named(operator: TestClient, registry: Registry, body: Any) -> None:
    answer = operator.post(f"/v1/models/{registry.versions()[1]}:canary", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "body"
    assert registry.in_use().challenger is None


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"[" * 10_000, b'{"share": NaN}'])
def test_a_body_that_is_no_json_is_named(operator: TestClient, registry: Registry, body: bytes) -> None:
    answer = operator.post(f"/v1/models/{registry.versions()[1]}:canary", content=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body"] + ["share"] * (b"share" in body)


def test_what_cannot_be_done_says_why(operator: TestClient, registry: Registry) -> None:
    first, second = registry.versions()
    for answer, status, said in (
        (operator.post(f"/v1/models/{first}:canary", json={"share": 0.1}), 409, "is the champion"),
        (operator.post("/v1/models/nope:canary", json={"share": 0.1}), 404, "does not exist"),
        (operator.delete(f"/v1/models/{second}:canary"), 409, "is not challenger"),
        (operator.post("/v1/models:rollback"), 404, "no version to go back to"),
    ):
        assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text


def test_a_worse_version_is_refused_unless_forced(operator: TestClient, registry: Registry) -> None:
    good = publish(registry.root, "good", metrics=MEASURED | {"ndcg@10": 0.5})
    worse = publish(registry.root, "worse", metrics=MEASURED | {"ndcg@10": 0.4})
    assert operator.post(f"/v1/models/{good}:promote").status_code == 200
    answer = operator.post(f"/v1/models/{worse}:promote")
    assert answer.status_code == 409
    assert "ndcg@10 is 0.4, the champion's 0.5: 20.0% lower, allowed are 2.0%" in answer.json()["detail"]
    assert registry.channel("champion") == good
    answer = operator.post(f"/v1/models/{worse}:promote?force=true")
    assert (answer.status_code, answer.json()["champion"]) == (200, worse)
    assert operator.post(f"/v1/models/{good}:promote?force=perhaps").status_code == 422


def test_a_registry_that_is_away_is_unavailable_and_nothing_stops(operator: TestClient, registry: Registry) -> None:
    first, second = registry.versions()
    away = registry.root.rename(registry.root.with_name("away"))
    registry.root.write_text("not a folder")
    for answer in (
        operator.post(f"/v1/models/{second}:promote"),
        operator.post(f"/v1/models/{second}:canary", json={"share": 0.1}),
        operator.post("/v1/models:rollback"),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
    shown = operator.get("/v1/models").json()
    assert (shown["answering"], "cannot be read" in shown["registry_failure"]) == (first, True)
    assert answered(operator) == ("champion", first)
    assert operator.get("/readyz").status_code == 200
    registry.root.unlink()
    away.rename(registry.root)
    assert operator.post(f"/v1/models/{second}:promote").status_code == 200


def test_metrics_say_that_a_champion_fails(operator: TestClient, registry: Registry) -> None:
    throwing = publish(registry.root, "throwing", throws_for_last_product=True)
    first = registry.channel("champion")
    operator.post(f"/v1/models/{throwing}:promote")
    assert "roomrec_champion_failing 0.0" in operator.get("/metrics").text
    operator.post("/v1/events", json=[event("product_click", user_id="u1", product_id="saw")])
    for _ in range(3):
        assert answered(operator) == ("champion", throwing)
    assert answered(operator) == ("previous", first)
    assert "roomrec_champion_failing 1.0" in operator.get("/metrics").text
