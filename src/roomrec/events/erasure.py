"""Who was erased: kept as salted hashes beside the event log, read by whoever makes training data of events.

The list says nobody's name. Whoever has it and an id can ask whether the id is meant, and nothing else.
"""

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from roomrec.errors import EventError

ERASED_USERS_FILE: Final = "erased_users.ndjson"
"""Name of the list in the folder of an event log: first a line with the salt, then a line an erasure."""

_SALT_BYTES: Final = 16


class ErasedUsers(NamedTuple):
    """A list of erased users.

    An event of an erased user counts as erased if it was received until the erasure: somebody who comes back later is
    somebody new.

    Example:
        >>> erased = ErasedUsers(b"salt", {hash_user("anna", b"salt"): 50})
        >>> erased.erased_at_ms("anna"), erased.erased_at_ms("bob")
        (50, None)
    """

    salt: bytes
    by_hash: Mapping[str, int]
    """hash of a user id -> when they were last erased, epoch milliseconds"""

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a list.

        Raises:
            EventError: If it is missing or damaged; guessing would bring erased users back.
        """
        try:
            # what follows the last line end was not written whole, and was acknowledged to nobody
            first, *lines = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
            by_hash: dict[str, int] = {}
            for line in lines:
                by_hash[line["user"]] = max(int(line["erased_at_ms"]), by_hash.get(line["user"], 0))
            return cls(bytes.fromhex(first["salt"]), by_hash)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EventError(f"{file} cannot be read as a list of erased users: {error}") from error

    def erased_at_ms(self, user_id: str) -> int | None:
        """Return when a user was last erased, None if never."""
        return self.by_hash.get(hash_user(user_id, self.salt))

    def find(self, user_id: pa.Array | pa.ChunkedArray, received_at_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Say which events are of erased users.

        Args:
            user_id: Of each event, null for nobody.
            received_at_ms: Of each event, ``[num_events]``.

        Returns:
            True where the user was erased when the event was received, or later, ``[num_events]``.
        """
        if not self.by_hash:
            return np.zeros(len(user_id), dtype=bool)
        chunked = user_id if isinstance(user_id, pa.ChunkedArray) else pa.chunked_array([user_id])
        ids = chunked.cast(pa.string()).combine_chunks().dictionary_encode()
        until = [-1 if name is None else self.erased_at_ms(name) for name in ids.dictionary.to_pylist()]
        until_ms = np.array([-1 if at_ms is None else at_ms for at_ms in until] + [-1], dtype=np.int64)
        # events of nobody take the last
        erased: npt.NDArray[np.bool_] = (
            np.maximum(received_at_ms, 0) <= until_ms[np.asarray(ids.indices.fill_null(len(until)))]
        )
        return erased


def hash_user(user_id: str, salt: bytes) -> str:
    """Return what a list knows of a user: 64 hexadecimal characters."""
    return hashlib.sha256(salt + user_id.encode(errors="surrogatepass")).hexdigest()


def mark_erased(file: Path, user_id: str, *, at_ms: int) -> str:
    """Put a user on the list; on the disk when this returns. Several processes may do so at a time.

    Args:
        file: The list; made with a salt of its own if missing.
        user_id: Who.
        at_ms: When, epoch milliseconds.

    Returns:
        The hash that stands for the user.

    Raises:
        OSError: If it cannot be written.
        EventError: If it is damaged.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size == 0:
            _append(descriptor, {"salt": secrets.token_hex(_SALT_BYTES)})
        elif os.pread(descriptor, 1, size - 1) != b"\n":
            _drop_half_a_line(descriptor, size)
        hashed = hash_user(user_id, ErasedUsers.read(file).salt)
        _append(descriptor, {"user": hashed, "erased_at_ms": at_ms})
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return hashed


def _append(descriptor: int, line: Mapping[str, str | int]) -> None:
    os.write(descriptor, json.dumps(line).encode() + b"\n")


def _drop_half_a_line(descriptor: int, size: int) -> None:
    """A process died while writing the last line; it acknowledged nothing."""
    whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
    os.ftruncate(descriptor, whole)
    if whole == 0:
        _append(descriptor, {"salt": secrets.token_hex(_SALT_BYTES)})
