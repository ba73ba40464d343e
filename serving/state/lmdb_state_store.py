"""State in one LMDB environment, shared by all processes of a machine."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import lmdb

from roomrec.errors import StateError
from serving.state.applying import RULES, apply_events, needed_by
from serving.state.event_log import Appended, EventLog, LoggedEvent
from serving.state.lmdb_scrubbing import scrub
from serving.state.lmdb_tables import LmdbTables
from serving.state.state_store import CatalogueRecords, Erased, MomentRecords, Position

_CHUNK = 5_000
_SCRUB_DUE = "scrub_due"  # somebody was erased since the file was last scrubbed with nobody else at it
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEFAULT_MAP_BYTES: Final = 64 << 30


class LmdbStateStore:
    """State in LMDB, shared by all processes of one machine; opened once per process.

    Writes are not synced: a killed process loses nothing, since the log has every event and ``applied_seq`` is written
    in the same transaction as what it speaks of. After a restart of the machine the file is not trusted: it is dropped
    and made again from the log.

    Args:
        path: Folder of the environment; made if missing.
        log: The log this is a view of.
        history_limit: Most events remembered for a viewer. A larger limit than the one the state was made with rebuilds
            it.
        map_bytes: Most bytes the file may grow to; address space, not memory.
        may_shrink: Whether a smaller limit than the state was made with counts.

    Raises:
        StateError: If it cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        log: EventLog,
        *,
        history_limit: int,
        map_bytes: int = _DEFAULT_MAP_BYTES,
        may_shrink: bool = True,
    ) -> None:
        if history_limit < 1:
            raise ValueError(f"history_limit must be at least 1, received {history_limit}")
        self._path = path
        self._log = log
        try:
            path.mkdir(parents=True, exist_ok=True)
            with (path / "open.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                _drop_if_rebooted(path)
                self._in_use = (path / "in_use.lock").open("w")
                is_alone = _lock_alone(self._in_use.fileno())
                self._environment = lmdb.open(
                    str(path), map_size=map_bytes, max_dbs=LmdbTables.MAX_DATABASES, sync=False, max_readers=512
                )
                self._environment.reader_check()  # a killed reader would keep old pages from being used again
                self._tables = LmdbTables(self._environment)
                if is_alone and (path / _SCRUB_DUE).exists():
                    scrub(path, self._environment)
                    (path / _SCRUB_DUE).unlink()
                fcntl.flock(self._in_use, fcntl.LOCK_SH)
        except (lmdb.Error, OSError, StateError) as error:
            for opened in ("_environment", "_in_use"):
                if hasattr(self, opened):
                    getattr(self, opened).close()
            raise StateError(f"state {path} cannot be opened: {error}; `rebuild-state` makes it again") from error
        with self._transaction() as transaction:
            made_with = self._tables.number(transaction, "history_limit")
            self._history_limit = history_limit if may_shrink else max(history_limit, made_with)
            is_other = made_with < self._history_limit or self._tables.number(transaction, "rules") != RULES
            if is_other and made_with:
                self._tables.clear(transaction)
            self._tables.set_number(transaction, "rules", RULES)
            self._tables.set_number(transaction, "history_limit", self._history_limit)

    def catch_up(self, appended: Appended | None = None) -> Position:
        """Apply the events of the log that have not been applied, in one transaction.

        Any process may call it, at any time: the write lock lets one work at a time, and the next finds the rest.

        Args:
            appended: Events just appended. If the state stands exactly before them they are applied from here, and the
                log is not read.

        Returns:
            How far the state has come.

        Raises:
            StateError: If the log cannot be read or the state cannot be written; nothing has changed then.
        """
        with self._transaction() as transaction:
            self._refuse_other_rules(transaction)
            position = self._tables.position(transaction)
            if (
                appended is not None
                and appended.entries
                and appended.previous_seq <= position.applied_seq < appended.entries[0].seq
            ):
                return self._apply(transaction, position, appended.entries)
            return self._apply_log(transaction)

    def rebuild(self) -> Position:
        """Forget everything and apply the whole log, in one transaction.

        Raises:
            StateError: As ``catch_up``.
        """
        with self._transaction() as transaction:
            self._refuse_other_rules(transaction)
            self._tables.clear(transaction)
            return self._apply_log(transaction)

    def position(self) -> Position:
        """Return how far the state has come; costs microseconds."""
        with self._reading() as transaction:
            return self._tables.position(transaction)

    def read_user(self, user_id: str) -> tuple[Position, bytes | None]:
        """Return a viewer's record as stored, None if nothing is known, and how far the state had come then."""
        with self._reading() as transaction:
            return self._tables.position(transaction), self._tables.user(transaction, user_id)

    def read_catalogue(self) -> CatalogueRecords:
        """Return every room that has not ended, started or not, whole, and the products listed there."""
        with self._reading() as transaction:
            return self._tables.catalogue(transaction)

    def read_changes(self, since: Position) -> CatalogueRecords | None:
        """Return what has changed of rooms and products, None if that cannot be told any more."""
        with self._reading() as transaction:
            return self._tables.changes(transaction, since)

    def read_moments(self, since: Position | None) -> MomentRecords:
        """Return what goes on in live rooms in which something was counted after ``since``."""
        with self._reading() as transaction:
            return self._tables.moments(transaction, since)

    def has_ended(self, room_id: str) -> bool:
        """Return whether a room's end has been heard of."""
        with self._reading() as transaction:
            return self._tables.has_ended(transaction, room_id)

    def erase_user(self, user_id: str) -> Erased:
        """Remove what is known of a viewer, after the log forgot them.

        What the log has by now is applied in the same transaction: then no writer that appended before the erasure can
        still apply events of the viewer from memory.

        Raises:
            StateError: If the log cannot be read or the state cannot be written; nothing has changed then.
        """
        with self._transaction() as transaction:
            self._refuse_other_rules(transaction)
            user = self._tables.pop_user(transaction, user_id)
            self._apply_log(transaction)
            if user is None:
                return Erased(0, 0, 0)
            return Erased(len(user.events), len(user.follows), sum(map(len, user.refused.values())))

    def scrub(self) -> int:
        """Overwrite what erased records have left in the file, while others read and write.

        What this process or another has written lately may still be in its buffers, and may come to lie in the file
        again where no record is; the next start of a process that is alone with the file overwrites once more.

        Returns:
            How many bytes were overwritten.

        Raises:
            StateError: If the file cannot be written, or somebody reads an old state of it for seconds.
        """
        try:
            (self._path / _SCRUB_DUE).touch()
            return scrub(self._path, self._environment)
        except OSError as error:
            raise StateError(f"state {self._path} cannot be written: {error}") from error

    def contents(self) -> dict[str, dict[bytes, bytes]]:
        """Return every record as stored, for comparing two states."""
        with self._reading() as transaction:
            return self._tables.contents(transaction)

    def close(self) -> None:
        """Close the environment; it can then be opened again in this process."""
        self._environment.close()
        self._in_use.close()

    def _apply_log(self, transaction: lmdb.Transaction) -> Position:
        position = self._tables.position(transaction)
        last_seq = self._log.last_seq()
        if position.applied_seq > last_seq:
            self._tables.clear(transaction)
            position = self._tables.position(transaction)
        while entries := self._log.read(after=position.applied_seq, limit=_CHUNK):
            position = self._apply(transaction, position, entries)
        if last_seq > position.applied_seq:  # what lay there was erased, or a duplicate used the place up
            position = position._replace(applied_seq=last_seq)
            self._tables.set_position(transaction, position)
        return position

    def _apply(self, transaction: lmdb.Transaction, position: Position, entries: Sequence[LoggedEvent]) -> Position:
        for first in range(0, len(entries), _CHUNK):
            some = entries[first : first + _CHUNK]
            loaded = self._tables.load(transaction, needed_by(some))
            applied = apply_events(some, loaded, history_limit=self._history_limit)
            self._tables.write(transaction, applied)
            position = Position(position.generation, some[-1].seq, max(position.catalogue_seq, applied.catalogue_seq))
        self._tables.set_position(transaction, position)
        return position

    def _refuse_other_rules(self, transaction: lmdb.Transaction) -> None:
        """While a new version takes over, the old one still runs: it must not write what the new one cannot read."""
        rules = self._tables.number(transaction, "rules")
        if rules != RULES:
            raise StateError(
                f"state {self._path} was made anew by rules {rules}, this process has rules {RULES}: another version "
                f"of the endpoint has taken over, stop this one"
            )

    @contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._environment.begin(write=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StateError(f"state {self._path} cannot be written: {error}") from error

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        try:
            with self._environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise StateError(f"state {self._path} cannot be read: {error}") from error


def drop_state(path: Path) -> None:
    """Remove a state that no process has open; the log makes it again."""
    for name in ("data.mdb", "lock.mdb"):
        (path / name).unlink(missing_ok=True)


def _lock_alone(file: int) -> bool:
    """Whether no other process has the state open; if so, none can open it until this one shares the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop_if_rebooted(path: Path) -> None:
    """Drop a state that was last written before this machine started: its tail may never have reached the disk."""
    boot_id = _BOOT_ID.read_text() if _BOOT_ID.exists() else ""
    written = path / "boot_id"
    if written.exists() and written.read_text() == boot_id:
        return  # not written again: on a full disk it would be left empty, and the next replica drop what others use
    if written.exists():
        drop_state(path)
    written.write_text(boot_id)
