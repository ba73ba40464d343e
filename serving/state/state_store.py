"""State as a view of the event log: what serving needs of a store."""

from collections.abc import Collection
from typing import NamedTuple, Protocol

from roomrec.retrieval.availability import ProductRecord, RoomRecord
from serving.state.records import UserRecord

Enters = tuple[float, int]
"""Decayed count of enters and the instant it stands for."""


class Position(NamedTuple):
    """How far the state has followed the log."""

    generation: int
    """goes up when the state is rebuilt"""
    applied_seq: int
    """the newest event the state contains"""


class CatalogueRecords(NamedTuple):
    """Records of the live catalogue; None for what does not exist, or no longer does."""

    position: Position
    rooms: dict[str, RoomRecord | None]
    products: dict[str, ProductRecord | None]
    enters: dict[str, Enters]


class Erased(NamedTuple):
    """What was removed of a viewer."""

    events: int
    follows: int
    refusals: int


class StateStore(Protocol):
    """What serving needs of a state store; ``tests/contracts`` says how each method behaves."""

    def catch_up(self) -> Position:
        """Apply every event of the log that has not been applied, exactly once."""

    def rebuild(self) -> Position:
        """Forget everything and apply the whole log; readers see the state before or after, never between."""

    def position(self) -> Position:
        """Return how far the state has come."""

    def read_user(self, user_id: str) -> tuple[Position, UserRecord | None]:
        """Return what is known of a viewer, and how far the state had come then."""

    def read_catalogue(self) -> CatalogueRecords:
        """Return every room that has not ended, and the products listed there."""

    def read_records(
        self, *, room_ids: Collection[str], product_ids: Collection[str], known_product_ids: Collection[str]
    ) -> CatalogueRecords:
        """Return some rooms and products, and products listed in those rooms that are not known yet."""

    def read_enters(self, room_ids: Collection[str]) -> dict[str, Enters]:
        """Return how many viewers enter some rooms."""

    def erase_user(self, user_id: str) -> Erased:
        """Remove a viewer."""

    def close(self) -> None:
        """Let go of files and connections."""
