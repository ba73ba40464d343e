"""Data folders with so much live and so many viewers, made once and kept."""

import asyncio
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from scripts.bench_serving.world import opening_events, viewers_events
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings


class Shop(NamedTuple):
    """How much there is."""

    num_rooms: int
    products_per_room: int
    num_products: int
    num_viewers: int = 500
    events_per_viewer: int = 50

    @property
    def name(self) -> str:
        """Folder name."""
        return "-".join(map(str, self))


def make_data(work: Path, registry: Path, shop: Shop) -> Path:
    """Fill a data folder through an endpoint, unless it was filled before.

    Returns:
        The folder.
    """
    data = work / f"data-{shop.name}"
    if not (data / "filled").exists():
        asyncio.run(_fill(registry, data, shop))
        (data / "filled").touch()
    return data


async def _fill(registry: Path, data: Path, shop: Shop) -> None:
    settings = Settings(registry=str(registry), data=str(data), allow_no_model=True)
    endpoint = Endpoint.open(settings)
    try:
        opening = opening_events(
            num_rooms=shop.num_rooms, products_per_room=shop.products_per_room, num_products=shop.num_products
        )
        past = viewers_events(
            num_viewers=shop.num_viewers,
            events_per_viewer=shop.events_per_viewer,
            num_rooms=shop.num_rooms,
            num_products=shop.num_products,
        )
        for events in (opening, past):
            await _post(endpoint, events)
    finally:
        await endpoint.close()


async def _post(endpoint: Endpoint, events: Iterable[dict[str, Any]]) -> None:
    remaining = iter(events)
    while body := list(islice(remaining, 10_000)):
        await endpoint.post(body)
