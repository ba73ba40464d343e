"""What a replica does when a model, a bundle or the registry fails."""

import asyncio

import msgspec
import pytest

from roomrec.bundle import Registry
from roomrec.errors import RegistryUnavailableError
from serving.deployments import models as models_module
from serving.deployments import registry_reader
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.serving.evening import event
from tests.serving.playing import feed, play, until, variants
from tests.serving.versions import publish


def test_a_failing_champion_gives_way_to_the_version_before_and_is_tried_again(
    here: Settings, registry: Registry
) -> None:
    first = registry.channel("champion")
    throwing = publish(registry.root, "throwing", throws_for_last_product=True)
    settings = msgspec.structs.replace(here, model_failures=3, model_retry_ms=200)

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.promotion.promote(throwing)
        assert feed(endpoint).model_version == throwing
        await endpoint.post([event("product_click", user_id="u1", product_id="saw")])
        assert [feed(endpoint).degraded for _ in range(4)] == ["model_failed"] * 4
        slate = feed(endpoint)
        assert (slate.variant, slate.model_version, slate.degraded) == ("previous", first, None)
        described = await endpoint.models.describe()
        assert (described["answering"], described["champion"]) == (first, throwing)
        assert (described["serving"]["is_failing"], described["serving"]["failed"]) == (True, 4)
        assert endpoint.models.falls_back
        await asyncio.sleep(0.25)
        assert not endpoint.models.falls_back
        assert feed(endpoint, "u2").model_version == throwing
        assert feed(endpoint).degraded == "model_failed"  # on probation one failure is enough
        assert feed(endpoint, "u2").model_version == first

    play(settings, scene)


def test_a_failing_champion_with_none_before_goes_on_for_those_it_can_answer(
    here: Settings, registry: Registry
) -> None:
    throwing = publish(registry.root, "throwing", throws_for_last_product=True)
    registry.promote(throwing)

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.post([event("product_click", user_id="u1", product_id="saw")])
        assert {feed(endpoint).degraded for _ in range(30)} == {"model_failed"}
        assert len(feed(endpoint).items) == 3
        assert (feed(endpoint, "u2").model_version, feed(endpoint, "u2").degraded) == (throwing, None)
        assert (await endpoint.models.describe())["serving"]["is_failing"]

    play(here, scene)


def test_a_failing_canary_gives_its_viewers_to_the_champion(here: Settings, registry: Registry) -> None:
    first = registry.channel("champion")
    throwing = publish(registry.root, "throwing", throws_for_last_product=True)

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.promotion.start_canary(throwing, share=1.0)
        await endpoint.post([event("product_click", user_id="u1", product_id="saw")])
        slates = [feed(endpoint) for _ in range(22)]
        assert [slate.degraded for slate in slates[:21]] == ["model_failed"] * 21
        assert (slates[21].variant, slates[21].model_version, slates[21].degraded) == ("champion", first, None)

    play(here, scene)


def test_a_registry_that_cannot_be_read_stops_nothing(here: Settings, registry: Registry) -> None:
    first = registry.channel("champion")

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.models.describe()
        away = registry.root.rename(registry.root.with_name("away"))
        registry.root.write_text("not a folder")
        assert await until(lambda: endpoint.models.reader.failure)
        described = await endpoint.models.describe()
        assert described["champion"] == described["answering"] == first
        assert len(described["versions"]) == 2
        assert "cannot be read" in described["registry_failure"]
        assert feed(endpoint).model_version == first
        assert endpoint.not_ready_because() is None
        with pytest.raises(RegistryUnavailableError):
            await endpoint.promotion.promote(first)
        registry.root.unlink()
        away.rename(registry.root)
        assert (await endpoint.models.describe())["registry_failure"] is None

    play(here, scene)


def test_a_registry_that_hangs_stops_nothing(
    here: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    hanging = threading.Event()
    monkeypatch.setattr(registry_reader, "ANSWERS_WITHIN_S", 0.05)

    async def scene(endpoint: Endpoint) -> None:
        monkeypatch.setattr(endpoint.models.registry, "in_use", hanging.wait)
        described = await endpoint.models.describe()
        assert "did not answer" in described["registry_failure"]
        assert feed(endpoint).degraded is None
        hanging.set()

    play(here, scene)


def test_a_replica_that_starts_without_its_registry_shows_what_is_popular_and_finds_it_later(
    here: Settings, registry: Registry
) -> None:
    first = registry.channel("champion")
    away = registry.root.rename(registry.root.with_name("away"))
    registry.root.write_text("not a folder")
    with pytest.raises(RegistryUnavailableError):
        Endpoint.open(here)

    async def scene(endpoint: Endpoint) -> None:
        assert feed(endpoint).degraded == "no_model"
        assert endpoint.not_ready_because() is None
        registry.root.unlink()
        away.rename(registry.root)
        assert await until(lambda: feed(endpoint).model_version == first)

    play(here, scene, must_load=False)


def test_a_load_that_failed_is_tried_again(here: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = registry.versions()
    monkeypatch.setattr(models_module, "_FAILED_LOAD_AGAIN_S", 0.05)

    async def scene(endpoint: Endpoint) -> None:
        registry.promote(second)
        file = registry.path(second) / "item_encoder.onnx"
        good = file.read_bytes()
        file.write_bytes(b"")
        assert await until(lambda: "champion" in endpoint.models.load_failures)
        assert feed(endpoint).model_version == first
        file.write_bytes(good)
        assert await until(lambda: feed(endpoint).model_version == second)
        assert not endpoint.models.load_failures

    play(here, scene)


def test_a_damaged_challenger_does_not_keep_a_replica_from_starting(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()
    registry.start_canary(second, share=1.0)
    (registry.path(second) / "user_encoder.onnx").write_bytes(b"broken")

    async def scene(endpoint: Endpoint) -> None:
        assert set(variants(endpoint).values()) == {("champion", first)}
        described = await endpoint.models.describe()
        assert "user_encoder.onnx" in described["challenger_failure"]
        assert (described["load_failure"], described["canary"], described["challenger"]) == (None, None, second)

    play(here, scene)
