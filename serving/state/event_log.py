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


class Appended(NamedTuple):
    """What became of events that were appended together."""

    statuses: list[str]
    """``accepted`` or ``duplicate`` for each, as they were given"""
    entries: list[LoggedEvent]
    """those accepted with their places, in order"""
    previous_seq: int
    """place of the newest event of the log before these, 0 if there was none: nothing lies between"""


class EventLog(Protocol):
    """What serving needs of a log; ``tests/contracts`` says how each method behaves."""

    def append(self, events: Sequence[Event]) -> Appended:
        """Store events durably, all or none."""

    def read(self, *, after: int, limit: int) -> list[LoggedEvent]:
        """Return the next events after a place, oldest first."""

    def last_seq(self) -> int:
        """Return a place at or after every event ever accepted, before every event to come; 0 if there was none."""

    def trimmed_seq(self) -> int:
        """Return the place up to which events have left the log for files, 0 if none have."""

    def erase_user(self, user_id: str) -> int:
        """Remove every event of a viewer and return how many there were."""

    def note(self, name: str, value: str | None = None) -> str | None:
        """Return the word kept with the log under a name; if there is none and one is given, it is kept from now on."""

    def close(self) -> None:
        """Let go of files and connections."""
