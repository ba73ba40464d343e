"""How big, how long and how messy a simulated world is."""

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 86_400_000
"""Milliseconds in a day; days are UTC."""

SPARE_DAYS: Final = 7
"""New viewers, streamers and products keep coming this many days after the log ends, so that "tonight" has some."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Everything that decides a world; the same configuration gives the same bytes.

    Args:
        seed: Decides everything random.
        start_at_ms: Midnight UTC of the first day.
        num_days: Days in the log.
        num_viewers: Viewers on the first day.
        num_streamers: Streamers on the first day.
        products_per_streamer: Mean size of a streamer's catalogue on the first day.
        num_categories: Categories, at most 12.
        daily_active_rate: Mean share of viewers who come on a day.
        views_per_session: Mean number of times a viewer looks for a room in one session.
        slate_size: Rooms shown at once by the logging policy.
        random_slot_rate: Share of slots the logging policy fills uniformly, the others by popularity.
        direct_entry_rate: Share of entries without a slate (notification, following, search), among all live rooms.
        taste_drift: Standard deviation over viewers of the daily turn of the taste, in radians.
        new_viewer_rate: New viewers a day, relative to ``num_viewers``.
        new_streamer_rate: New streamers a day, relative to ``num_streamers``.
        new_product_rate: New products a day, relative to the catalogue of the first day.
        stock_per_product: Median pieces of a product at the start of a room; None scales with viewers per streamer.
        restock_rate: Share of sold-out products that come back within the room.
        duplicate_rate: Share of events delivered twice.
        late_rate: Share of events received hours or days late.
        skew_rate: Share of viewer events from a clock that runs a little fast.
        broken_rate: Rows that break the contract, relative to good ones.
    """

    seed: int = 7
    start_at_ms: int = 1_767_225_600_000
    num_days: int = 14
    num_viewers: int = 3_000
    num_streamers: int = 120
    products_per_streamer: int = 16
    num_categories: int = 12
    daily_active_rate: float = 0.25
    views_per_session: float = 4.0
    slate_size: int = 6
    random_slot_rate: float = 0.4
    direct_entry_rate: float = 0.5
    taste_drift: float = 0.04
    new_viewer_rate: float = 0.01
    new_streamer_rate: float = 0.01
    new_product_rate: float = 0.02
    stock_per_product: int | None = None
    restock_rate: float = 0.3
    duplicate_rate: float = 0.002
    late_rate: float = 0.004
    skew_rate: float = 0.002
    broken_rate: float = 0.0005

    def __post_init__(self) -> None:
        if self.start_at_ms < 0 or self.start_at_ms % DAY_MS:
            raise ValueError(f"start_at_ms is {self.start_at_ms}, expected midnight UTC after 1970: {DAY_MS} * days")
        for name in ("num_days", "num_viewers", "num_streamers", "products_per_streamer", "slate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not 4 <= self.num_categories <= 12:
            raise ValueError(f"num_categories is {self.num_categories}, expected 4 to 12")
        if self.views_per_session < 1:
            raise ValueError(f"views_per_session is {self.views_per_session}, expected at least 1")
        if self.stock_per_product is not None and self.stock_per_product < 1:
            raise ValueError(f"stock_per_product is {self.stock_per_product}, expected at least 1 or None")
        for name in self.__dataclass_fields__:
            if name.endswith("_rate") and not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")

    @property
    def end_at_ms(self) -> int:
        """The instant after the last day of the log."""
        return self.start_at_ms + self.num_days * DAY_MS
