"""A trimmed log made whole again: the files of its archive, then what is still in Redis."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.errors import EventError, StateError
from roomrec.events.erasure import ErasedUsers
from serving.state.event_log import Appended, Event, EventLog, LoggedEvent


class ArchivedLog:
    """The log that a state is made of again: everything that ever was in it.

    Events of the archive have lost their places, and get new ones in the order of the files. That is no harm, since
    records do not depend on the order of events. Who has been erased by the time a piece is read is left out.

    Args:
        log: The log as it is now; closed with this one.
        folder: Where ``trim-log`` moved the rest.
        erased_users: The list of erased users; need not exist.

    Raises:
        StateError: If the archive is not that of this log.
    """

    def __init__(self, log: EventLog, folder: Path, *, erased_users: Path) -> None:
        self._log = log
        self._erased_users = erased_users
        self._trimmed_seq = log.trimmed_seq()
        # a part is named by where it begins, and lies in the folders of several days
        self._files = sorted(folder.rglob("part-*.parquet"), key=lambda file: (file.name, file))
        try:
            sizes = [pq.read_metadata(file).num_rows for file in self._files]
            begins = [int(file.stem.removeprefix("part-")) for file in self._files]
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StateError(f"archive {folder} cannot be read: {error}") from error
        self._starts = [0, *accumulate(sizes)]
        is_of_this_log = bool(begins) and max(begins) < self._trimmed_seq and self._starts[-1] <= self._trimmed_seq
        if not is_of_this_log and (self._trimmed_seq or begins):
            raise StateError(
                f"archive {folder} holds {self._starts[-1]} events, {self._trimmed_seq} have left the log: give the "
                f"folder that was given to `trim-log`, with nothing else in it"
            )
        self._read: tuple[Any, list[Event | None]] = (None, [])

    def append(self, events: Sequence[Event]) -> Appended:
        """Append to the log as it is now."""
        return self._log.append(events)

    def read(self, *, after: int, limit: int) -> list[LoggedEvent]:
        """Return at most ``limit`` events after a place, first those of the archive.

        Raises:
            StateError: If a file or the log cannot be read.
        """
        while after < self._starts[-1]:
            place = bisect_right(self._starts, after) - 1
            start = self._starts[place]
            some = self._rows(place)[after - start :][:limit]
            entries = [LoggedEvent(seq, event) for seq, event in enumerate(some, after + 1) if event is not None]
            if entries:
                return entries
            after += len(some)
        return self._log.read(after=max(after, self._trimmed_seq), limit=limit)

    def last_seq(self) -> int:
        """Return the newest place."""
        return self._log.last_seq()

    def trimmed_seq(self) -> int:
        """Return 0: nothing is missing."""
        return 0

    def note(self, name: str, value: str | None = None) -> str | None:
        """Return or keep a word with the log."""
        return self._log.note(name, value)

    def erase_user(self, user_id: str) -> int:
        """Erase from the log as it is now."""
        return self._log.erase_user(user_id)

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _rows(self, place: int) -> list[Event | None]:
        """Return the events of a file, None for those of erased users."""
        file = self._files[place]
        listed = self._erased_users.stat().st_size if self._erased_users.exists() else 0
        if self._read[0] == (file, listed):
            return self._read[1]
        try:
            table = pq.read_table(file, partitioning=None)
            erased = np.zeros(len(table), dtype=bool)
            if listed:
                received_at_ms = table["received_at_ms"].to_numpy()
                erased = ErasedUsers.read(self._erased_users).find(table["user_id"], received_at_ms)
        except (pa.ArrowException, OSError, EventError) as error:
            raise StateError(f"archive file {file} cannot be read: {error}") from error
        rows = [None if is_erased else _event(row) for row, is_erased in zip(table.to_pylist(), erased, strict=True)]
        self._read = (file, listed), rows
        return rows


def _event(row: dict[str, Any]) -> Event:
    event = {name: value for name, value in row.items() if value is not None}
    if "context" in event:
        event["context"] = dict(event["context"])
    return event
