"""The event log in one SQLite file."""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from roomrec.errors import StateError
from serving.state.event_log import ACCEPTED, DUPLICATE, Appended, Event, LoggedEvent

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_key BLOB NOT NULL UNIQUE,
    user_key BLOB,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of_user ON events (user_key) WHERE user_key IS NOT NULL;
"""
_INSERT = "INSERT INTO events (event_key, user_key, body) VALUES (?, ?, ?) ON CONFLICT (event_key) DO NOTHING"
_KEY_BYTES = 16
_READ = f"""
SELECT seq, body FROM events WHERE seq > ? AND user_key IS NOT zeroblob({_KEY_BYTES}) ORDER BY seq LIMIT ?
"""
_ERASE = f"""
UPDATE events SET event_key = randomblob({_KEY_BYTES}), user_key = zeroblob({_KEY_BYTES}), body = zeroblob(length(body))
WHERE user_key = ?
"""
_FROM_CLEAR_IDS = """
ALTER TABLE events RENAME TO former;
DROP INDEX events_of_user;
{schema};
INSERT INTO events (seq, event_key, user_key, body)
    SELECT seq, key(event_id), key(user_id), body FROM former ORDER BY seq;
DELETE FROM sqlite_sequence WHERE name = 'events';
INSERT INTO sqlite_sequence (name, seq) SELECT 'events', seq FROM sqlite_sequence WHERE name = 'former';
DROP TABLE former
"""
_BUSY_TIMEOUT_S = 10.0
_INT64 = range(-(2**63), 2**63)


class SqliteEventLog:
    """An event log in one SQLite file that several processes may share.

    Write-ahead log with ``synchronous=FULL``: a commit is on the disk before it returns. ``seq`` is given under the
    write lock, so it grows in the order of commits and is never given twice, not even after an erasure.

    A row is never deleted. Where rows are deleted SQLite moves their neighbours from page to page, and leaves copies of
    them behind in places that ``secure_delete`` does not reach. An erased row is overwritten with zeros where it is;
    and as rows are only added at the end, none is ever moved. Indexes do move their entries: they hold hashes of ids.

    Args:
        path: The file; made if missing.

    Raises:
        StateError: If it cannot be opened as an event log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA secure_delete=ON")
            self._connection.execute("BEGIN IMMEDIATE")
            columns = [name for (name,) in self._connection.execute("SELECT name FROM pragma_table_info('events')")]
            has_clear_ids = "event_id" in columns
            if has_clear_ids:
                self._connection.create_function("key", 1, _key, deterministic=True)
            script = _FROM_CLEAR_IDS.format(schema=_SCHEMA) if has_clear_ids else _SCHEMA
            for statement in script.split(";"):
                self._connection.execute(statement)
            self._connection.execute("COMMIT")
            if has_clear_ids:
                self._connection.execute("VACUUM")
                self._empty_write_ahead_log()
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"event log {path} cannot be opened: {error}") from error
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    def append(self, events: Sequence[Event]) -> Appended:
        """Store events in one transaction that is durable when this returns.

        Args:
            events: Validated events; several may have the same id, of which the first counts.

        Returns:
            What became of them, and where they are in the log.

        Raises:
            StateError: If nothing could be stored: the disk is full, or another process holds the log for too long.
            ValueError: If an event holds a whole number beyond 64 bits or text that is not Unicode; nothing is stored.
        """
        rows = [self._row(event) for event in events]
        execute = self._connection.execute
        statuses, entries = [], []
        try:
            execute("BEGIN IMMEDIATE")
            previous_seq = execute("SELECT MAX(seq) FROM events").fetchone()[0] or 0
            for row, event in zip(rows, events, strict=True):
                cursor = execute(_INSERT, row)
                if cursor.rowcount:
                    statuses.append(ACCEPTED)
                    entries.append(LoggedEvent(cursor.lastrowid or 0, event))
                else:
                    statuses.append(DUPLICATE)
            execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise StateError(f"event log {self._path} cannot be written: {error}") from error
        return Appended(statuses, entries, previous_seq)

    def read(self, *, after: int, limit: int) -> list[LoggedEvent]:
        """Return at most ``limit`` events with ``seq > after``, oldest first.

        Raises:
            StateError: If the log cannot be read.
        """
        rows = self._query(_READ, (after, limit))
        return [LoggedEvent(seq, self._decode(body)) for seq, body in rows]

    def read_user(self, user_id: str) -> Iterator[Event]:
        """Yield every event of a viewer, in order of acceptance."""
        for (body,) in self._query("SELECT body FROM events WHERE user_key = ? ORDER BY seq", (_key(user_id),)):
            yield self._decode(body)

    def last_seq(self) -> int:
        """Return the greatest ``seq`` ever given, 0 if none; a duplicate may have used one up.

        Raises:
            StateError: If the log cannot be read.
        """
        rows = self._query("SELECT seq FROM sqlite_sequence WHERE name = 'events'", ())
        return int(rows[0][0]) if rows else 0

    def trimmed_seq(self) -> int:
        """Return 0: nothing leaves this log."""
        return 0

    def erase_user(self, user_id: str) -> int:
        """Overwrite every event of a viewer, and empty the write-ahead log.

        Returns:
            How many events there were.

        Raises:
            StateError: If the log cannot be written, or somebody reads an old state of it for seconds; asking again is
                safe.
        """
        try:
            erased = self._connection.execute(_ERASE, (_key(user_id),)).rowcount
            self._empty_write_ahead_log()
        except sqlite3.Error as error:
            raise StateError(f"event log {self._path} cannot be written: {error}") from error
        return erased

    def note(self, name: str, value: str | None = None) -> str | None:
        """Return the word kept with the log under a name; if there is none and one is given, it is kept from now on.

        Raises:
            StateError: If the log cannot be read or written.
        """
        if value is not None:
            try:
                self._connection.execute("INSERT INTO notes VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))
            except sqlite3.Error as error:
                raise StateError(f"event log {self._path} cannot be written: {error}") from error
        rows = self._query("SELECT value FROM notes WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _row(self, event: Event) -> tuple[Any, ...]:
        for name, value in event.items():
            if isinstance(value, int) and value not in _INT64:
                raise ValueError(f"{name} is {value}, beyond 64 bits")
        return _key(event["event_id"]), _key(event.get("user_id")), self._encode(event)

    def _empty_write_ahead_log(self) -> None:
        ((is_busy, *_),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if is_busy:
            raise sqlite3.OperationalError("somebody has been reading or writing it for too long to empty its WAL")

    def _query(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StateError(f"event log {self._path} cannot be read: {error}") from error


def _key(external_id: str | None) -> bytes | None:
    return None if external_id is None else hashlib.blake2b(external_id.encode(), digest_size=_KEY_BYTES).digest()
