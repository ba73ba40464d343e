"""State as a view of the event log: what serving needs of a store."""

from typing import NamedTuple, Protocol

from roomrec.retrieval.availability import ProductRecord, RoomRecord
from serving.state.event_log import Appended
from serving.state.records import RoomMoment


class Position(NamedTuple):
    """How far the state has followed the log."""

    generation: int
    """another one each time the state is made anew; one that was used before does not come back"""
    applied_seq: int
    """every event up to this place of the log is contained"""
    catalogue_seq: int
    """the newest event that touched what may be shown (``CATALOGUE_EVENT_TYPES``)"""


class CatalogueRecords(NamedTuple):
    """Rooms that have not ended and products, or what has changed of them.

    What only places late events among others may be left out: ``newest`` of a listing, ``described``, ``introduced``
    and ``counted`` of a product.
    """

    position: Position
    rooms: dict[str, RoomRecord | None]
    """by id; None for a room that has ended. Of what has changed: the listings that have, and the rest whole"""
    products: dict[str, ProductRecord]
    """by id"""


class MomentRecords(NamedTuple):
    """What goes on in live rooms."""

    position: Position
    rooms: dict[str, RoomMoment]
    """by id; rooms in which nothing was counted are left out"""


class Erased(NamedTuple):
    """What was removed of a viewer."""

    events: int
    follows: int
    refusals: int


class StateStore(Protocol):
    """What serving needs of a state store; ``tests/contracts`` says how each method behaves."""

    def catch_up(self, appended: Appended | None = None) -> Position:
        """Apply every event of the log that has not been applied, exactly once.

        Args:
            appended: Events just appended. If the state stands exactly before them (``previous_seq <= applied_seq`` and
                ``applied_seq`` before the first of them), they are applied from here and the log is not read.
        """

    def rebuild(self) -> Position:
        """Forget everything and apply the whole log; readers see the state before or after, never between."""

    def position(self) -> Position:
        """Return how far the state has come."""

    def read_user(self, user_id: str) -> tuple[Position, bytes | None]:
        """Return a viewer's record as stored (``unpack_user``), and how far the state had come then.

        Another record has other bytes, so the bytes may be the key of a cache.
        """

    def read_catalogue(self) -> CatalogueRecords:
        """Return every room that has not ended, started or not, whole, and the products listed there."""

    def read_changes(self, since: Position) -> CatalogueRecords | None:
        """Return what has changed of rooms and products since the state stood elsewhere, to be laid over what was read.

        A listing never comes without the record of its product.

        Returns:
            The changes; None if they cannot be told any more (another generation, or too long ago): read all then.
        """

    def read_moments(self, since: Position | None) -> MomentRecords:
        """Return what goes on in live rooms in which something was counted after ``since``, all of them for None.

        Rooms that have ended are left out; of a ``since`` of another generation, nothing is left out.
        """

    def erase_user(self, user_id: str) -> Erased:
        """Remove a viewer, after the log forgot them: events appended by others before that must not come back."""

    def close(self) -> None:
        """Let go of files and connections."""
