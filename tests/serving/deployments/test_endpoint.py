"""The endpoint without HTTP: what only shows when things overlap."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roomrec.bundle import Registry
from roomrec.errors import BundleError
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings
from tests.serving.evening import enter, event, opening, start
from tests.serving.shop import NOW_MS

Play = Callable[[Callable[[Endpoint], Coroutine[Any, Any, None]]], None]


def play_with(settings: Settings, scene: Callable[[Endpoint], Coroutine[Any, Any, None]]) -> None:
    """Run a scene with an open endpoint."""

    async def with_endpoint() -> None:
        endpoint = Endpoint.open(settings, now_ms=lambda: NOW_MS)
        try:
            await scene(endpoint)
        finally:
            await endpoint.close()

    asyncio.run(with_endpoint())


@pytest.fixture
def play(settings: Settings) -> Play:
    return lambda scene: play_with(settings, scene)


def rooms(endpoint: Endpoint) -> set[str]:
    return {item["room_id"] for item in endpoint.recommend(Query("u1", "room_feed", 100)).items}


def test_a_read_that_is_under_way_does_not_hide_what_is_posted_meanwhile(play: Play) -> None:
    async def scene(endpoint: Endpoint) -> None:
        await endpoint.post(opening())
        under_way = endpoint._opened.log._connection.execute("SELECT seq FROM events")
        under_way.fetchone()
        ended = event("room_end", room_id="tool-room") | {"received_at_ms": NOW_MS}
        assert endpoint._writer.post([ended]).result(5) == ["accepted"]
        under_way.close()
        assert rooms(endpoint) == {"scarf-room", "quiet-room"}

    play(scene)


def test_posts_at_the_same_time_are_all_there_when_answered(play: Play) -> None:
    async def scene(endpoint: Endpoint) -> None:
        async def begin(number: int) -> None:
            posted = await endpoint.post([start(f"room{number}", "mia"), enter("u1", f"room{number}", "mia")])
            assert [each.status for each in posted] == ["accepted", "accepted"]
            assert f"room{number}" in rooms(endpoint)

        await asyncio.gather(*(begin(number) for number in range(40)))
        assert len(rooms(endpoint)) == 40

    play(scene)


def test_what_happens_while_a_model_loads_is_not_missed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(endpoint: Endpoint) -> None:
        await endpoint.post([*opening(), enter("u1", "tool-room", "tom")])
        second = (await endpoint.models.describe())["versions"][1]
        opened = asyncio.Event()
        loop = asyncio.get_running_loop()
        loader = endpoint.models._loader
        load = loader.load

        def slow(*arguments: Any, **options: Any) -> Any:
            model = load(*arguments, **options)
            loop.call_soon_threadsafe(opened.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
            return model

        go_on = asyncio.Event()
        monkeypatch.setattr(loader, "load", slow)
        loading = asyncio.create_task(endpoint.promotion.promote(second))
        await opened.wait()
        await endpoint.post([event("room_end", room_id="tool-room"), start("new-room", "tom")])
        assert rooms(endpoint) == {"scarf-room", "quiet-room", "new-room"}
        go_on.set()
        await loading
        assert endpoint.model.version == second
        assert set(endpoint.model.rooms.ids) == {"scarf-room", "quiet-room", "new-room"}
        assert rooms(endpoint) == {"scarf-room", "quiet-room", "new-room"}

    shutil.copytree(settings.registry, tmp_path / "registry")
    play_with(msgspec.structs.replace(settings, registry=str(tmp_path / "registry")), scene)


def test_a_replica_that_restarts_on_a_damaged_champion_shows_what_is_popular(
    settings: Settings, tmp_path: Path
) -> None:
    shutil.copytree(settings.registry, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    first, second = registry.versions()
    (registry.path(first) / "user_encoder.onnx").write_bytes(b"broken")
    damaged = msgspec.structs.replace(settings, registry=str(tmp_path / "registry"))
    with pytest.raises(BundleError, match=r"user_encoder\.onnx"):
        Endpoint.open(damaged, now_ms=lambda: NOW_MS)

    async def scene() -> None:
        endpoint = Endpoint.open(damaged, champion_must_load=False, now_ms=lambda: NOW_MS)
        try:
            await endpoint.post(opening())
            slate = endpoint.recommend(Query("u1", "room_feed", 2))
            assert (slate.degraded, len(slate.items)) == ("no_model", 2)
            assert endpoint.not_ready_because() is None
            assert "user_encoder.onnx" in (await endpoint.models.describe())["load_failure"]
            await endpoint.promotion.promote(second)
            assert endpoint.recommend(Query("u1", "room_feed", 2)).model_version == second
            assert (await endpoint.models.describe())["load_failure"] is None
        finally:
            await endpoint.close()

    asyncio.run(scene())
