"""Receipts of erasures, kept without the ids of those who were erased, for whoever audits."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from roomrec.errors import StateError

RECEIPTS_FILE: Final = "erasures.ndjson"
"""In the data folder: a receipt a line, oldest first."""


class Receipts:
    """A file of receipts; several processes may add to it at a time.

    Args:
        data: The endpoint's data folder.
    """

    def __init__(self, data: Path) -> None:
        self._file = data / RECEIPTS_FILE

    def add(self, receipt: Mapping[str, Any]) -> None:
        """Keep a receipt; on the disk when this returns.

        Raises:
            StateError: If it cannot be written.
        """
        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                size = os.fstat(descriptor).st_size
                # a process may have died in the middle of a line
                broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, b"\n" * broken + orjson.dumps(receipt) + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StateError(f"receipts {self._file} cannot be written: {error}") from error

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest receipts, newest first.

        Raises:
            StateError: If they cannot be read.
        """
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StateError(f"receipts {self._file} cannot be read: {error}") from error
        receipts = []
        for line in reversed(lines):
            if len(receipts) == limit:
                break
            try:
                receipts.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                continue  # was not written whole, and acknowledged to nobody
        return receipts
