"""Scenes played with one endpoint in an event loop of its own."""

import asyncio
from collections.abc import Awaitable, Callable

from serving.deployments.endpoint import Endpoint
from serving.deployments.recommender import Query, Slate
from serving.settings import Settings
from tests.serving.evening import enter, opening
from tests.serving.shop import NOW_MS


def play(settings: Settings, scene: Callable[[Endpoint], Awaitable[None]], *, must_load: bool = True) -> None:
    async def run() -> None:
        endpoint = Endpoint.open(settings, champion_must_load=must_load, now_ms=lambda: NOW_MS)
        try:
            await endpoint.start()
            await endpoint.post([*opening(), *(enter(f"u{n}", "tool-room", "tom") for n in range(40))])
            await scene(endpoint)
        finally:
            await endpoint.close()

    asyncio.run(run())


async def until(happened: Callable[[], object]) -> bool:
    for _ in range(500):
        if happened():
            return True
        await asyncio.sleep(0.01)
    return False


def feed(endpoint: Endpoint, user_id: str = "u1") -> Slate:
    return endpoint.recommend(Query(user_id, "room_feed", 3))


def variants(endpoint: Endpoint) -> dict[str, tuple[str, str | None]]:
    slates = {f"u{n}": feed(endpoint, f"u{n}") for n in range(40)}
    return {user_id: (slate.variant, slate.model_version) for user_id, slate in slates.items()}
