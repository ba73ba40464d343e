"""Folders that events and slates were exported to: known, so that an erasure can go through them as well."""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from roomrec.errors import StateError
from roomrec.events.files import write_whole

EXPORTS_FILE: Final = "exports.json"
"""In the data folder: the folders of all exports."""

_LOCK_FILE: Final = "exports.lock"
_LOG = logging.getLogger(__name__)


class ExportsErased(NamedTuple):
    """What was removed from exports."""

    rows: int
    """events and slates"""
    files: int
    """files written again, or deleted where nothing was left"""
    untouched: list[str]
    """folders that are not there any more, and files that could not be read"""


class Exports:
    """The exports of one data folder.

    An export and an erasure take turns at a lock: an erasure first empties the log and then goes through the files, so
    that what an export writes afterwards holds nothing of the viewer.

    Args:
        data: The endpoint's data folder.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._file = data / EXPORTS_FILE

    def folders(self) -> list[Path]:
        """Return the folders of all exports, oldest first.

        Raises:
            StateError: If the list cannot be read.
        """
        try:
            return [Path(name) for name in json.loads(self._file.read_bytes())["folders"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{self._file}, the list of exports, cannot be read: {error}") from error

    def register(self, folder: Path) -> None:
        """Remember a folder, before anything is written there.

        Raises:
            StateError: If the list cannot be read or written.
        """
        name = os.path.abspath(folder)
        with self.lock():
            known = [str(each) for each in self.folders()]
            if name in known:
                return
            try:
                write_whole(self._file, json.dumps({"folders": [*known, name]}, indent=1).encode() + b"\n")
            except OSError as error:
                raise StateError(f"{self._file}, the list of exports, cannot be written: {error}") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep erasures out while a piece is read from the log and written, or exports while one goes through them.

        Raises:
            StateError: If the data folder cannot be written.
        """
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._data / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"data folder {self._data} cannot be written: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def erase_user(self, user_id: str) -> ExportsErased:
        """Write every file again that holds rows of a viewer, without them; each appears whole or not at all.

        Raises:
            StateError: If a file cannot be written; asking again is safe.
        """
        rows = files = 0
        untouched = []
        with self.lock():
            for folder in self.folders():
                if not folder.is_dir():
                    untouched.append(f"{folder}: is not there any more")
                    continue
                for file in sorted(folder.rglob("*.parquet")):
                    try:
                        removed = _rewrite(file, user_id)
                    except (pa.ArrowException, OSError) as error:
                        # the others are to be gone through all the same; the receipt says what was not
                        _LOG.error("an export could not be gone through: %s", type(error).__name__)
                        untouched.append(f"{file}: {type(error).__name__}")
                        continue
                    rows += removed
                    files += removed > 0
        return ExportsErased(rows, files, untouched)


def _rewrite(file: Path, user_id: str) -> int:
    with pq.ParquetFile(file) as parquet:
        if "user_id" not in parquet.schema_arrow.names:
            return 0
        theirs = pc.equal(parquet.read(["user_id"])["user_id"].cast(pa.string()), user_id)
        kept = pc.invert(pc.fill_null(theirs, False))
        removed = len(kept) - (pc.sum(kept).as_py() or 0)
        if not removed:
            return 0
        rest = parquet.read().filter(kept)
    if not len(rest):
        file.unlink()
        return removed
    content = pa.BufferOutputStream()
    pq.write_table(rest, content, compression="zstd", version="2.6")
    write_whole(file, content.getvalue().to_pybytes())
    return removed
