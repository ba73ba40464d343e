"""The event log: what was accepted, in order of acceptance, durable before the answer."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

ACCEPTED: Final = "accepted"
"""The event is new and now durable."""

DUPLICATE: Final = "duplicate"
"""An event with this id was accepted before; nothing has changed."""

Event = dict[str, Any]
"""A validated event: its columns that are not null, by name."""


class LoggedEvent(NamedTuple):
    """An event and its place in the log."""

    seq: int
    event: Event


class Touched(NamedTuple):
    """What a piece of the log speaks of; viewers' records are not among it."""

    room_ids: set[str]
    product_ids: set[str]
    entered_room_ids: set[str]
    """rooms somebody entered"""


class EventLog(Protocol):
    """What serving needs of a log; ``tests/contracts`` says how each method behaves."""

    def append(self, events: Sequence[Event]) -> list[str]:
        """Store events durably and return ``accepted`` or ``duplicate`` for each."""

    def read(self, *, after: int, limit: int) -> list[LoggedEvent]:
        """Return the next events after a place, oldest first."""

    def touched(self, *, after: int, until: int) -> Touched:
        """Return which rooms and products the events of ``(after, until]`` may have changed."""

    def last_seq(self) -> int:
        """Return the place of the newest event ever accepted, 0 if there never was one."""

    def erase_user(self, user_id: str) -> int:
        """Remove every event of a viewer and return how many there were."""

    def close(self) -> None:
        """Let go of files and connections."""
