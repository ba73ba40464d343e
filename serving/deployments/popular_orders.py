"""What is popular by the counts of each model that answers, kept in order beside the requests."""

from collections.abc import Callable, Collection
from typing import Final

from serving.deployments.popular_rooms import PopularRooms
from serving.deployments.serving_model import ServingModel
from serving.state.live_catalogue import LiveCatalogue

_REST_S: Final = 0.02


class PopularOrders:
    """Orders of the live rooms by model version; of no version where there is no model.

    Args:
        catalogue: What is live, refreshed by the caller.
        now_ms: The clock, epoch milliseconds.
    """

    def __init__(self, catalogue: LiveCatalogue, *, now_ms: Callable[[], int]) -> None:
        self._catalogue = catalogue
        self._now_ms = now_ms
        self._orders: dict[str | None, PopularRooms] = {}

    @property
    def versions(self) -> list[str | None]:
        """Whose orders are kept, None for that without a model."""
        return list(self._orders)

    def of(self, model: ServingModel | None) -> PopularRooms:
        """Return what is popular by a model's counts; made now if nobody prepared it."""
        popular = self._orders.get(None if model is None else model.version)
        if popular is None:
            popular = self.prepare_at_once(model)
        elif popular.is_due and popular.is_quick:
            popular.make(at_ms=self._now_ms())
        return popular

    def follow(self, room_ids: Collection[str]) -> None:
        """Take note of rooms that may have started or ended."""
        for popular in self._orders.values():
            popular.follow(room_ids)

    def prepare_at_once(self, model: ServingModel | None) -> PopularRooms:
        """Put what is popular in order before there are requests."""
        popular = self._add(model)
        popular.make(at_ms=self._now_ms())
        return popular

    async def prepare(self, model: ServingModel) -> None:
        """Put what is popular in order for a model that is about to answer, while requests go on."""
        await self._add(model).make_in_pieces(at_ms=self._now_ms(), rest_s=_REST_S)

    def keep_only(self, versions: Collection[str | None]) -> None:
        """Forget what belongs to models that answer no more."""
        for version in self._orders.keys() - set(versions):
            del self._orders[version]

    async def keep_in_order(self) -> None:
        """Put what is popular in order where that is due, while requests go on."""
        for popular in list(self._orders.values()):
            await popular.place_waiting()
            if popular.is_due and not popular.is_quick:
                await popular.make_in_pieces(at_ms=self._now_ms())

    def _add(self, model: ServingModel | None) -> PopularRooms:
        before = {} if model is None else model.streamer_popularity
        popular = self._orders[None if model is None else model.version] = PopularRooms(self._catalogue, before)
        return popular
