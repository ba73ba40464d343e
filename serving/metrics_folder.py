"""Where the numbers of all replicas of a machine are: in memory, so that no full disk can kill a replica.

Prometheus maps files that hold nothing yet; where the disk has no room for what is written to them, the kernel ends the
process (SIGBUS).
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

_PREFIX: Final = "roomrec-metrics-"
_LOCK: Final = "in-use"
_NEEDED_BYTES: Final = 32 << 20


class MetricsFolder:
    """A folder for one run of the endpoint.

    The run holds a lock on a file in it, so that the next one can tell, and remove, what a run that was killed left.

    Args:
        parents: Folders it may be in, the best first; one without room is passed over, the last is taken anyway.

    Raises:
        OSError: If it cannot be made.
    """

    def __init__(self, parents: Sequence[Path] | None = None) -> None:
        parents = (Path("/dev/shm"), Path(tempfile.gettempdir())) if parents is None else parents
        for parent in parents:
            _remove_what_was_left(parent)
        parent = next(filter(_has_room, parents), parents[-1])
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            with contextlib.suppress(FileNotFoundError):  # taken for one that was left, before it was locked
                self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if (self.path / _LOCK).exists():
                    return
                os.close(self._lock)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _has_room(parent: Path) -> bool:
    try:
        status = os.statvfs(parent)
    except OSError:
        return False
    return os.access(parent, os.W_OK | os.X_OK) and status.f_bavail * status.f_frsize >= _NEEDED_BYTES


def _remove_what_was_left(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, gone meanwhile, or somebody else's
            if folder.lstat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
