"""What was shown to whom: every slate, appended to a file before its answer goes out, lost by no kill of a process.

Each replica writes files of its own. A record is 4 bytes of length, 4 bytes of checksum (both little-endian), and a
``LoggedSlate`` in msgpack, written by one system call: what the kernel has taken outlives the process, and half a
record at the end of a file is told by its checksum. The highest bit of the length marks a record that was erased, of
which nothing but zeros is left.
"""

import contextlib
import logging
import os
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from roomrec.errors import StateError

if TYPE_CHECKING:
    from serving.deployments.recommender import Query, Slate

SUFFIX: Final = ".slates"
"""Of a file of slates."""

_LOG = logging.getLogger(__name__)
_HEADER = struct.Struct("<II")
_ERASED = 1 << 31
_HOUR_MS = 3_600_000
_SAID_AT_MOST_EVERY_S = 10.0
_OPENED_AGAIN_AFTER_S = 1.0
_SEARCHED_AT_ONCE = 128 << 10
_RECORDS_AT_ONCE = 256
_REST_S = 100e-6


class LoggedSlate(msgspec.Struct, array_like=True, gc=False):
    """One slate as it was shown."""

    at_ms: int
    request_id: str
    user_id: str
    surface: str
    room_id: str | None
    """the room asked for"""
    model_version: str | None
    variant: str
    degraded: str | None
    items: list[tuple[str, float, float]]
    """room or product id (as the surface has it), score and propensity, in the order shown"""


class Sizes(NamedTuple):
    """How large slate logs get."""

    file_bytes: int = 64 << 20
    """a file is closed when it is longer, or when an hour has passed"""
    kept_bytes: int = 16 << 30
    """of all files together; the oldest go first"""
    kept_files: int = 50_000
    """files of all replicas; a replica with little to do writes 9000 a year"""


class SlateLog:
    """Files one replica appends slates to.

    Appending never fails a request: a slate that cannot be written is counted, and that is said in the log.

    Args:
        folder: Where the files of all replicas of this machine are; made if missing.
        sizes: When files are closed and deleted.
        steady_s: Seconds of a clock that never goes back.

    Raises:
        StateError: If the folder cannot be made.
    """

    def __init__(
        self, folder: Path, *, sizes: Sizes | None = None, steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._sizes = sizes or Sizes()
        self._steady_s = steady_s
        self._name = secrets.token_hex(4)
        self._descriptor: int | None = None
        self._path = folder
        self._open_again_s = float("-inf")
        self._dropping: threading.Thread | None = None
        self._hour = -1
        self._bytes = 0
        self._files = 0
        self._said_at_s = float("-inf")
        self._encode = msgspec.msgpack.Encoder().encode
        self.lost = 0
        """slates that could not be written"""
        self.on_lost: Callable[[], None] = lambda: None
        """called for each of them"""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"folder of slates {folder} cannot be made: {error}") from error

    def append(self, query: "Query", slate: "Slate", at_ms: int) -> None:
        """Write a slate; costs microseconds.

        Args:
            query: What was asked.
            slate: What is answered.
            at_ms: When.
        """
        if self._descriptor is None and self._steady_s() < self._open_again_s:
            self._count_lost()
            return
        name = "room_id" if query.surface == "room_feed" else "product_id"
        payload = self._encode(
            (
                at_ms,
                slate.request_id,
                query.user_id,
                query.surface,
                query.room_id,
                slate.model_version,
                slate.variant,
                slate.degraded,
                [(item[name], item["score"], item["propensity"]) for item in slate.items],
            )
        )
        record = _HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            if self._descriptor is None or at_ms // _HOUR_MS != self._hour or self._bytes >= self._sizes.file_bytes:
                self._descriptor = self._open_next(at_ms)
            written = os.write(self._descriptor, record)
            if written < len(record):
                raise OSError(f"only {written} of {len(record)} bytes could be written")
            self._bytes += written
        except OSError as error:
            self._keep_what_is_whole()
            self._lose(error)

    def erase_user(self, user_id: str) -> int:
        """Remove every slate of a viewer from the files of all replicas, also of those that are being written.

        Records are overwritten where they are, so no other record moves and no replica has to wait.

        Returns:
            How many slates there were.

        Raises:
            StateError: If a file cannot be read or written; asking again is safe.
        """
        erased = 0
        for path in slate_files(self._folder):
            try:
                erased += _erase_in(path, user_id)
            except FileNotFoundError:
                continue  # the oldest go, while others are gone through
            except OSError as error:
                raise StateError(f"slates {path} cannot be erased: {error}") from error
        return erased

    def close(self) -> None:
        """Close the file; every slate has been handed to the kernel already."""
        self._close_file()

    def _open_next(self, at_ms: int) -> int:
        self._close_file()
        self._files += 1
        self._path = self._folder / f"{at_ms:015}-{self._name}-{self._files:06}{SUFFIX}"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._hour, self._bytes = at_ms // _HOUR_MS, 0
        if self._dropping is None or not self._dropping.is_alive():
            # in a thread: a folder may hold many files, and requests wait for this one
            self._dropping = threading.Thread(
                target=_drop_oldest, args=(self._folder, self._sizes), name="old-slates", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # no thread to be had: the next file tries again
                self._dropping.start()
        return descriptor

    def _keep_what_is_whole(self) -> None:
        """Go on in the same file after a loss; a disk that is full would otherwise fill with empty files too."""
        if self._descriptor is not None:
            try:
                os.ftruncate(self._descriptor, self._bytes)
            except OSError:
                self._close_file()  # the next one begins a file: what is in this one may end anywhere
        if self._descriptor is None:
            self._open_again_s = self._steady_s() + _OPENED_AGAIN_AFTER_S

    def _close_file(self) -> None:
        if self._descriptor is None:
            return
        os.close(self._descriptor)
        self._descriptor = None
        if self._bytes == 0:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _lose(self, error: OSError) -> None:
        self._count_lost()
        now_s = self._steady_s()
        if now_s - self._said_at_s >= _SAID_AT_MOST_EVERY_S:
            self._said_at_s = now_s
            _LOG.error("slates cannot be written in %s, %d lost so far: %s", self._folder, self.lost, error)

    def _count_lost(self) -> None:
        self.lost += 1
        self.on_lost()


def slate_files(folder: Path) -> list[Path]:
    """Return the files of slates in a folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_slates(path: Path) -> Iterator[LoggedSlate]:
    """Yield the slates of a file, oldest first.

    Erased ones, those whose checksum does not match, and half a slate at the end are left out.

    Raises:
        OSError: If the file cannot be read.
    """
    decode = msgspec.msgpack.Decoder(LoggedSlate).decode
    content = path.read_bytes()
    for start, stop, is_whole in _records(content):
        if is_whole:
            yield decode(content[start:stop])


def _records(content: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield where each record's payload lies, and whether it is what was written."""
    at = 0
    while at + _HEADER.size <= len(content):
        length, checksum = _HEADER.unpack_from(content, at)
        is_erased, length = bool(length & _ERASED), length & ~_ERASED
        start = at + _HEADER.size
        stop = start + length
        if length == 0 or stop > len(content):
            yield start, len(content), False
            return
        yield start, stop, not is_erased and zlib.crc32(memoryview(content)[start:stop]) == checksum
        at = stop


def _drop_oldest(folder: Path, sizes: Sizes) -> None:
    """Delete the oldest files that are too many, or too much together."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                with contextlib.suppress(FileNotFoundError):
                    found.append((entry.name, entry.stat().st_size))
    surplus_bytes = sum(size for _, size in found) - sizes.kept_bytes
    surplus_files = len(found) - sizes.kept_files
    for name, size in sorted(found)[:-1]:  # slates go on being written to the newest
        if surplus_bytes <= 0 and surplus_files <= 0:
            return
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)
            surplus_bytes -= size
            surplus_files -= 1


def _erase_in(path: Path, user_id: str) -> int:
    content = path.read_bytes()
    needle = msgspec.msgpack.encode(user_id)
    if not _holds(content, needle):
        return 0
    decode = msgspec.msgpack.Decoder(LoggedSlate).decode
    erased = 0
    with path.open("r+b", buffering=0) as file:
        for number, (start, stop, is_whole) in enumerate(_records(content), start=1):
            if number % _RECORDS_AT_ONCE == 0:
                time.sleep(_REST_S)
            if content.find(needle, start, stop) < 0:
                continue
            if is_whole:
                if decode(content[start:stop]).user_id != user_id:
                    continue
                # first the mark, so that nobody takes a half-emptied record for a damaged one
                _write_at(file.fileno(), struct.pack("<I", (stop - start) | _ERASED), start - _HEADER.size)
                erased += 1
            # of what is no whole record, nothing is missed: half a slate, or one an erasure was stopped in
            _write_at(file.fileno(), bytes(stop - start), start)
        os.fsync(file.fileno())
    return erased


def _holds(content: bytes, needle: bytes) -> bool:
    """Search in pieces, with rests: one search of a whole file holds the interpreter, and requests, for 45 ms."""
    for start in range(0, len(content), _SEARCHED_AT_ONCE):
        if content.find(needle, start, start + _SEARCHED_AT_ONCE + len(needle) - 1) >= 0:
            return True
        time.sleep(_REST_S)
    return False


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    written = os.pwrite(descriptor, content, offset)
    if written < len(content):
        raise OSError(f"only {written} of {len(content)} bytes could be written")
