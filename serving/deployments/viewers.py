"""Viewers who asked lately, as a replica remembers them: unpacked once, for as long as their record is the same."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from roomrec.events.schema import EVENT_TYPE_CODES
from serving.state.records import PastEvent, Refusals, UserRecord, refusals_of, unpack_user

_WATCHED: Final = frozenset(EVENT_TYPE_CODES[name] for name in ("enter", "watch"))
_SEEN: Final = frozenset(EVENT_TYPE_CODES[name] for name in ("product_click", "add_to_cart"))
_BOUGHT: Final = EVENT_TYPE_CODES["order"]


class Viewer:
    """One viewer as the state knows them, and what follows from it; never changed.

    Args:
        record: What the state knows.
    """

    def __init__(self, record: UserRecord) -> None:
        self.record = record

    @property
    def user_id(self) -> str:
        """Who it is."""
        return self.record.user_id

    @property
    def events(self) -> list[PastEvent]:
        """What the viewer did, oldest first."""
        return self.record.events

    @cached_property
    def refused(self) -> Refusals:
        """What is not to be shown."""
        return refusals_of(self.record)

    @cached_property
    def watched_streamers(self) -> frozenset[str]:
        """Hosts whose rooms the viewer entered or watched."""
        return frozenset(each.streamer_id for each in self.events if each.event_type in _WATCHED and each.streamer_id)

    @cached_property
    def seen_products(self) -> frozenset[str]:
        """Products clicked or put in the cart."""
        return frozenset(each.product_id for each in self.events if each.event_type in _SEEN and each.product_id)

    @cached_property
    def bought_products(self) -> frozenset[str]:
        """Products ordered."""
        return frozenset(each.product_id for each in self.events if each.event_type == _BOUGHT and each.product_id)

    @cached_property
    def products_by_interest(self) -> list[str]:
        """Products of the history, those the viewer came back to most often first."""
        counts = Counter(each.product_id for each in reversed(self.events) if each.product_id)
        return [product_id for product_id, _ in counts.most_common()]


class ViewerCache:
    """Unpacked viewers by id, those who asked lately.

    What is remembered counts only while the state's record is the same byte for byte, so a viewer who did something, on
    whichever replica, or was erased, is never answered from memory.

    Args:
        max_bytes: Most bytes of packed records remembered; unpacked they take about five times as much.

    Raises:
        ValueError: If ``max_bytes`` is negative.
    """

    def __init__(self, *, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, received {max_bytes}")
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: OrderedDict[str, tuple[bytes, Viewer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def viewer(self, user_id: str, packed: bytes | None) -> Viewer | None:
        """Return a viewer as of a record, None if there is none.

        Args:
            user_id: Who it is.
            packed: The record as the state has it now.
        """
        known = self._known.get(user_id)
        if known is not None:
            if known[0] == packed:
                self._known.move_to_end(user_id)
                return known[1]
            self.forget(user_id)
        if packed is None:
            return None
        viewer = Viewer(unpack_user(packed))
        self._known[user_id] = packed, viewer
        self._bytes += len(packed)
        while self._bytes > self._max_bytes:
            _, (oldest, _) = self._known.popitem(last=False)
            self._bytes -= len(oldest)
        return viewer

    def forget(self, user_id: str) -> None:
        """Drop a viewer."""
        known = self._known.pop(user_id, None)
        if known is not None:
            self._bytes -= len(known[0])
