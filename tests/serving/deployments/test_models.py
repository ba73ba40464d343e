"""Which model answers whom: canaries, shadows, what keeps a version out, and going back."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roomrec.bundle import Registry
from roomrec.errors import BundleError, RegistryConflictError, RegistryError
from roomrec.policy.assignment import is_assigned
from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query
from serving.settings import Settings
from tests.serving.evening import enter, event, opening, start
from tests.serving.playing import feed, play, until, variants
from tests.serving.shop import NOW_MS
from tests.serving.versions import publish

MEASURED = {"dataset_fingerprint": "d1", "split": "test", "surface": "room_feed", "queries": 100}


def test_a_canary_answers_its_share_and_nobody_moves_while_it_grows(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()

    async def scene(endpoint: Endpoint) -> None:
        before: set[str] = set()
        for share in (0.1, 0.4, 1.0):
            described = await endpoint.promotion.start_canary(second, share=share)
            assert (described["challenger"], described["share"]) == (second, share)
            found = variants(endpoint)
            canary = {user for user, variant in found.items() if variant == ("challenger", second)}
            assert canary == {user for user in found if is_assigned(user, experiment=second, share=share)}
            assert all(variant == ("champion", first) for user, variant in found.items() if user not in canary)
            assert before <= canary
            before = canary
        assert len(before) == 40
        described = await endpoint.promotion.stop_canary(second)
        assert (described["challenger"], described["share"], described["canary"]) == (None, 0.0, None)
        assert set(variants(endpoint).values()) == {("champion", first)}

    play(here, scene)


def test_replicas_follow_a_canary_and_agree_and_so_do_restarts(here: Settings, registry: Registry) -> None:
    _, second = registry.versions()
    seen: list[dict[str, tuple[str, str | None]]] = []

    async def scene(endpoint: Endpoint) -> None:
        seen.append(variants(endpoint))  # from the first request on

    registry.start_canary(second, share=0.5)
    for replica in ("one", "other", "other"):
        play(msgspec.structs.replace(here, data=str(Path(here.data) / replica)), scene)
    assert seen[0] == seen[1] == seen[2]
    assert 8 <= Counter(name for name, _ in seen[0].values())["challenger"] <= 32


def test_versions_with_other_ids_and_sizes_answer_side_by_side(here: Settings, registry: Registry) -> None:
    other = publish(
        registry.root,
        "other",
        vocabulary={"streamer": ["zoe", "ann", "tom", "bob"], "product": ["lamp", "saw"]},
        embedding_dim=8,
        max_sequence_length=5,
    )

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.promotion.start_canary(other, share=0.5)
        for user_id, (variant, version) in variants(endpoint).items():
            slate = feed(endpoint, user_id)
            assert (slate.variant, slate.model_version, slate.degraded) == (variant, version, None)
            assert slate.items[0]["room_id"] == "tool-room"
        await endpoint.post([start("new-room", "ann"), event("room_end", room_id="tool-room")])
        for user_id in ("u1", "u2", "u3", "u4"):
            assert {item["room_id"] for item in feed(endpoint, user_id).items} == {
                "scarf-room",
                "quiet-room",
                "new-room",
            }
        assert {name for name, _ in variants(endpoint).values()} == {"champion", "challenger"}

    play(here, scene)


def test_a_challenger_without_a_share_is_compared_unseen(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()
    registry.promote(second, channel="challenger")

    async def scene(endpoint: Endpoint) -> None:
        assert await until(lambda: endpoint.models.shadow)
        assert set(variants(endpoint).values()) == {("champion", first)}
        assert await until(lambda: endpoint.models.shadow.report()["requests"] >= 5)
        report = (await endpoint.models.describe())["shadow"]
        assert (report["version"], report["failed"], report["overlap"]) == (second, 0, 1.0)
        assert report["candidate_p99_ms"] >= report["candidate_p50_ms"] > 0

    play(here, scene)


def test_a_challenger_that_failed_unseen_is_refused_unless_forced(here: Settings, registry: Registry) -> None:
    throwing = publish(registry.root, "throwing", throws_for_last_product=True)
    registry.promote(throwing, channel="challenger")

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.post([event("product_click", user_id="u1", product_id="saw")])
        assert await until(lambda: endpoint.models.shadow)
        assert feed(endpoint).degraded is None
        assert await until(lambda: endpoint.models.shadow.report()["requests"])
        assert endpoint.models.shadow.report()["failed"] == 1
        for refused in (
            endpoint.promotion.promote(throwing),
            endpoint.promotion.start_canary(throwing, share=0.1),
        ):
            with pytest.raises(BundleError, match=f"{throwing} failed on 1 requests"):
                await refused
        assert registry.in_use().share == 0.0
        await endpoint.promotion.promote(throwing, force=True)
        assert registry.in_use().champion == throwing

    play(here, scene)


@pytest.mark.parametrize("how", ["throws_for_last_product", "gives_nan"])
def test_a_version_that_fails_on_what_was_asked_lately_never_gets_in(
    here: Settings, registry: Registry, how: str
) -> None:
    bad = publish(registry.root, "bad", **{how: True})
    first = registry.channel("champion")

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.post([event("product_click", user_id="u1", product_id="saw")])
        feed(endpoint)
        feed(endpoint, "u2")
        with pytest.raises(BundleError, match="fails on 1 of the 2 requests asked last"):
            await endpoint.promotion.promote(bad)
        assert registry.in_use() == (first, None, 0.0)
        assert feed(endpoint).model_version == first

    play(here, scene)


def test_a_version_that_cannot_encode_what_is_live_never_gets_in(here: Settings, registry: Registry) -> None:
    bad = publish(registry.root, "bad", throws_for_last_streamer=True)

    async def scene(endpoint: Endpoint) -> None:
        with pytest.raises(BundleError, match="cannot encode 1 of 3 live rooms"):
            await endpoint.promotion.promote(bad)

    play(here, scene)


def test_one_room_that_cannot_be_encoded_costs_that_room(here: Settings, registry: Registry) -> None:
    bad = publish(registry.root, "bad", throws_for_last_streamer=True)
    registry.promote(bad)

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.post([start("late-room", "mia"), start("bad-room", "zoe")])
        slate = endpoint.recommend(Query("u1", "room_feed", 9))
        assert (slate.model_version, slate.degraded) == (bad, "fewer_than_k")
        assert {item["room_id"] for item in slate.items} == {"scarf-room", "tool-room", "late-room"}

    play(here, scene)


@pytest.mark.parametrize(
    ("metrics", "refused", "said"),
    [
        (MEASURED | {"ndcg@10": 0.40}, True, "ndcg@10 is 0.4, the champion's 0.5: 20.0% lower, allowed are 2.0%"),
        (MEASURED | {"ndcg@10": 0.51}, False, "ndcg@10 is 0.51, the champion's 0.5"),
        (
            MEASURED | {"ndcg@10": 0.40, "dataset_fingerprint": "d2"},
            False,
            "not compared: ndcg@10 was measured with another dataset_fingerprint",
        ),
        ({}, False, "not compared: the manifest of the candidate holds no ndcg@10"),
    ],
)
def test_a_worse_version_is_refused_and_what_cannot_be_compared_is_said(
    here: Settings, registry: Registry, metrics: dict[str, object], refused: bool, said: str
) -> None:
    champion = publish(registry.root, "champion", metrics=MEASURED | {"ndcg@10": 0.5})
    candidate = publish(registry.root, "candidate", metrics=metrics)
    registry.promote(champion)

    async def scene(endpoint: Endpoint) -> None:
        if refused:
            with pytest.raises(BundleError, match="is worse than the champion") as caught:
                await endpoint.promotion.promote(candidate)
            assert said in str(caught.value)
            assert "force=true" in str(caught.value)
            assert registry.channel("champion") == champion
            assert (await endpoint.promotion.start_canary(candidate, share=0.1))["comparison"] == said
        described = await endpoint.promotion.promote(candidate, force=refused)
        assert (described["champion"], described["comparison"]) == (candidate, said)

    play(here, scene)


def test_rolling_back_is_one_call_and_ends_a_canary(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()
    third = publish(registry.root, "third")

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.promotion.promote(second)
        await endpoint.promotion.start_canary(third, share=0.5)
        loaded = endpoint.models.previous
        described = await endpoint.promotion.roll_back()
        assert (described["champion"], described["challenger"], described["previous"]) == (first, None, None)
        assert endpoint.models.champion is loaded  # it was still in memory
        assert set(variants(endpoint).values()) == {("champion", first)}
        with pytest.raises(RegistryError, match="no version to go back to"):
            await endpoint.promotion.roll_back()

    play(here, scene)


def test_a_version_damaged_since_is_not_rolled_back_to(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.promotion.promote(second)
        (registry.path(first) / "user_encoder.onnx").write_bytes(b"broken")
        with pytest.raises(BundleError, match=r"user_encoder\.onnx has sha256"):
            await endpoint.promotion.roll_back()
        assert registry.in_use().champion == second
        assert feed(endpoint).model_version == second

    play(here, scene)


def test_rooms_that_changed_while_a_version_stood_by_are_there_after_going_back(
    here: Settings, registry: Registry
) -> None:
    first, second = registry.versions()

    async def scene(endpoint: Endpoint) -> None:
        await endpoint.promotion.promote(second)
        await endpoint.post([event("room_end", room_id="tool-room"), start("new-room", "tom")])
        await endpoint.promotion.roll_back()
        slate = feed(endpoint)
        assert slate.model_version == first
        assert {item["room_id"] for item in slate.items} == {"scarf-room", "quiet-room", "new-room"}

    play(here, scene)


def test_promoters_at_once_leave_every_replica_on_what_the_registry_says(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()
    third = publish(registry.root, "third")

    async def scene(endpoint: Endpoint) -> None:
        await asyncio.gather(*(endpoint.promotion.promote(each) for each in (second, third, first, third, second)))
        wanted = registry.in_use().champion
        assert await until(lambda: feed(endpoint).model_version == wanted)

    play(here, scene)


def test_an_erased_viewer_is_not_rehearsed(here: Settings) -> None:
    async def scene(endpoint: Endpoint) -> None:
        feed(endpoint)
        feed(endpoint, "u2")
        await endpoint.erase_user("u1")
        assert [query.user_id for query, _ in endpoint.models._asked] == ["u2"]

    play(here, scene)


def test_a_viewer_erased_while_a_version_loads_is_not_remembered_by_it(
    here: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second = registry.versions()
    forgotten: list[tuple[str, str]] = []

    async def scene(endpoint: Endpoint) -> None:
        feed(endpoint)
        loader, loop = endpoint.models._loader, asyncio.get_running_loop()
        load = loader.load

        def load_and_erase(*arguments: Any, **options: Any) -> Any:
            model = load(*arguments, **options)
            forget = model.encoders.viewers.forget
            monkeypatch.setattr(
                model.encoders.viewers,
                "forget",
                lambda user_id: forgotten.append((model.version, forget(user_id) or user_id)),
            )
            asyncio.run_coroutine_threadsafe(endpoint.erase_user("u1"), loop).result(10)
            return model

        monkeypatch.setattr(loader, "load", load_and_erase)
        await endpoint.promotion.promote(second)
        assert forgotten == [(second, "u1")]

    play(here, scene)


def test_what_cannot_be_a_canary(here: Settings, registry: Registry) -> None:
    first, second = registry.versions()

    async def scene(endpoint: Endpoint) -> None:
        with pytest.raises(RegistryConflictError, match="is the champion"):
            await endpoint.promotion.start_canary(first, share=0.1)
        with pytest.raises(RegistryError, match="does not exist"):
            await endpoint.promotion.start_canary("nope", share=0.1)
        with pytest.raises(RegistryConflictError, match="is not challenger"):
            await endpoint.promotion.stop_canary(second)

    play(here, scene)


def test_two_replicas_promoting_at_once_end_on_one_version(here: Settings, registry: Registry) -> None:
    _, second = registry.versions()
    third = publish(registry.root, "third")

    async def scene(endpoint: Endpoint) -> None:
        other = Endpoint.open(msgspec.structs.replace(here, data=str(Path(here.data) / "other")), now_ms=lambda: NOW_MS)
        try:
            await other.start()
            await other.post(opening())
            await asyncio.gather(
                *(endpoint.promotion.promote(second) for _ in range(3)),
                *(other.promotion.promote(third) for _ in range(3)),
            )
            wanted = registry.in_use().champion
            for replica in (endpoint, other):
                assert await until(lambda replica=replica: replica.models.champion.version == wanted)
            await other.promotion.roll_back()
            assert await until(lambda: endpoint.models.champion.version == registry.in_use().champion)
        finally:
            await other.close()

    play(here, scene)


def test_closing_does_not_wait_for_a_version_that_loads(here: Settings, registry: Registry) -> None:
    _, second = registry.versions()

    async def scene(endpoint: Endpoint) -> None:
        feed(endpoint)
        loader = endpoint.models._loader
        load = loader.load

        def load_many_rooms(*arguments: object, **options: bool) -> object:
            for _ in range(2_000):
                loader._pause()
            return load(*arguments, **options)

        loader.load = load_many_rooms
        loading = asyncio.create_task(endpoint.promotion.promote(second))
        await asyncio.sleep(0.05)
        await endpoint.close()
        with pytest.raises((BundleError, asyncio.CancelledError)):
            await asyncio.wait_for(loading, 2)
        assert registry.in_use().champion != second

    async def run() -> None:
        endpoint = Endpoint.open(here, now_ms=lambda: NOW_MS)
        await endpoint.start()
        await endpoint.post([*opening(), enter("u1", "tool-room", "tom")])
        await scene(endpoint)

    asyncio.run(run())


def test_what_is_popular_is_kept_in_order_only_for_what_is_at_work(
    here: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = registry.versions()

    async def scene(endpoint: Endpoint) -> None:
        orders = endpoint._recommender.popular
        assert orders.versions == [first]
        monkeypatch.setattr(endpoint.promotion, "_compare", lambda _: (True, "0.1 < 0.5"))
        with pytest.raises(BundleError, match="is worse"):
            await endpoint.promotion.promote(second)
        assert orders.versions == [first]
        await endpoint.promotion.promote(second, force=True)
        assert sorted(map(str, orders.versions)) == sorted([first, second])

    play(here, scene)


def test_a_model_that_fails_finds_what_is_popular_in_order(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(endpoint: Endpoint) -> None:
        monkeypatch.setattr(endpoint.models.champion.model, "rank_products", None)
        assert feed(endpoint).degraded == "model_failed"
        assert endpoint._recommender.popular.versions == [endpoint.models.champion.version]

    play(here, scene)


def test_without_a_model_what_is_popular_is_in_order_before_anybody_asks(here: Settings, tmp_path: Path) -> None:
    alone = msgspec.structs.replace(here, registry=str(tmp_path / "none"), allow_no_model=True)

    async def scene(endpoint: Endpoint) -> None:
        assert endpoint._recommender.popular.versions == [None]

    play(alone, scene)
