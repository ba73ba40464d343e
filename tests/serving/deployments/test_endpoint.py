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


def test_many_rooms_at_once_are_encoded_between_requests_and_one_more_at_once(play: Play) -> None:
    async def scene(endpoint: Endpoint) -> None:
        model = endpoint.model
        assert model is not None
        await endpoint.start()
        await endpoint.post([start(f"r{nth}", "mia") for nth in range(1_000)])
        assert len(model.rooms) == 64
        assert len(endpoint.catalogue.rooms) == 1_000
        await endpoint.post([start("one-more", "mia")])
        assert "one-more" in model.rooms
        waiting = [f"r{nth}" for nth in range(1_000) if f"r{nth}" not in model.rooms]
        assert len(waiting) > 500
        ended = waiting[::2]
        await endpoint.post([event("room_end", room_id=room_id) for room_id in [*ended, "one-more"]])
        assert "one-more" not in model.rooms
        for _ in range(100):
            assert not set(ended) & set(model.rooms.ids)
            if len(model.rooms) == 1_000 - len(ended):
                break
            await asyncio.sleep(0.01)
        assert set(model.rooms.ids) == endpoint.catalogue.rooms.keys()

    play(scene)


def test_many_products_at_once_are_encoded_between_requests_and_what_is_sold_out_goes_at_once(play: Play) -> None:
    async def scene(endpoint: Endpoint) -> None:
        model = endpoint.model
        assert model is not None
        await endpoint.start()
        await endpoint.post(opening())
        query = Query("u1", "room_products", 1_000, room_id="tool-room")
        await endpoint.post([enter("u1", "tool-room", "tom")])
        shown = [item["product_id"] for item in endpoint.recommend(query).items]
        assert shown == ["drill"]
        names = [f"p{nth}" for nth in range(600)]
        await endpoint.post([event("product_listed", room_id="tool-room", product_id=name) for name in names])
        shown = [item["product_id"] for item in endpoint.recommend(query).items]
        assert 60 < len(shown) < 500
        assert "drill" in shown
        await endpoint.post([event("product_listed", room_id="tool-room", product_id="one-more")])
        assert "one-more" in {item["product_id"] for item in endpoint.recommend(query).items}
        assert len(endpoint.recommend(query).items) < 500
        await endpoint.post([event("product_unlisted", room_id="tool-room", product_id="one-more")])
        gone = ["drill", *names[::3]]
        await endpoint.post([event("stock_changed", product_id=name, stock=0) for name in gone])
        for _ in range(100):
            shown = [item["product_id"] for item in endpoint.recommend(query).items]
            assert not set(gone) & set(shown)
            if len(shown) == 400:
                break
            await asyncio.sleep(0.01)
        assert sorted(shown) == sorted(set(names) - set(gone))

    play(scene)


def test_a_shelf_that_is_asked_for_first_while_much_waits_fills_up(play: Play) -> None:
    async def scene(endpoint: Endpoint) -> None:
        await endpoint.start()
        names = [f"p{nth}" for nth in range(600)]
        await endpoint.post([start("r1", "mia"), enter("u1", "r1", "mia")])
        await endpoint.post([event("product_listed", room_id="r1", product_id=name) for name in names])
        query = Query("u1", "room_products", 1_000, room_id="r1")
        assert 0 < len(endpoint.recommend(query).items) < 600
        await asyncio.sleep(1.0)
        assert {item["product_id"] for item in endpoint.recommend(query).items} == set(names)

    play(scene)
