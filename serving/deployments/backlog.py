"""Rooms that have changed and that a model has not followed yet."""

from collections.abc import Collection
from typing import Final

from serving.deployments.serving_model import listed_of
from serving.state.live_catalogue import Changes, LiveCatalogue

AT_ONCE: Final = 64
"""Rooms and products that a model follows in one go: a few milliseconds, and more than one usual post changes."""


class Backlog:
    """Rooms with those of their products that may have changed, the newest in front.

    The newest go first, so that a room that starts is known to the next request however many wait behind it.

    Example:
        >>> backlog = Backlog()
        >>> backlog.add(LiveCatalogue(None), Changes(frozenset({"ended"}), frozenset()))
        >>> backlog.take(LiveCatalogue(None))
        (['ended'], set())
    """

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, None] | None] = {}  # products in the order they came

    def __len__(self) -> int:
        return len(self._rooms)

    @property
    def room_ids(self) -> Collection[str]:
        """The rooms, the newest last."""
        return self._rooms.keys()

    def add(self, catalogue: LiveCatalogue, changes: Changes) -> None:
        """Note what has changed; that a room has ended is a change too."""
        for room_id in changes.room_ids:
            room = catalogue.rooms.get(room_id)
            waiting = self._rooms.pop(room_id, {})
            if room is None:
                waiting = {}
            elif changes.product_ids is None:
                waiting = None
            elif waiting is not None:
                for product_id in listed_of(room, changes.product_ids):
                    waiting.pop(product_id, None)
                    waiting[product_id] = None
            self._rooms[room_id] = waiting

    def take(self, catalogue: LiveCatalogue, *, at_most: int = AT_ONCE) -> tuple[list[str], set[str]]:
        """Take some rooms and products out, the newest first.

        Args:
            catalogue: What is live.
            at_most: Rooms and products together; of a room that lists more, the rest stays.

        Returns:
            Rooms, and those of their products that may have changed.
        """
        room_ids: list[str] = []
        product_ids: set[str] = set()
        while self._rooms and len(room_ids) + len(product_ids) < at_most:
            room_id, waiting = self._rooms.popitem()
            if waiting is None:
                room = catalogue.rooms.get(room_id)
                waiting = {} if room is None else dict.fromkeys(room.listings)
            room_ids.append(room_id)
            for _ in range(min(len(waiting), max(at_most - len(room_ids) - len(product_ids), 1))):
                product_ids.add(waiting.popitem()[0])
            if waiting:
                self._rooms[room_id] = waiting
        return room_ids, product_ids

    def take_rooms(self) -> set[str]:
        """Take all rooms out, whichever products of them have changed."""
        room_ids = set(self._rooms)
        self._rooms.clear()
        return room_ids
