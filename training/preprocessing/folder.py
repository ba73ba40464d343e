"""A dataset's folder appears whole or not at all, whatever kills the job."""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roomrec.errors import DatasetError

_LOG = logging.getLogger(__name__)


@contextmanager
def unfinished_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a folder to write in, which becomes the target when the block ends without an error.

    Until then it lies beside the target under a name that no reader looks at. What an earlier run left there when it
    was killed is removed. A lock that dies with its process keeps two runs from writing the same dataset.

    Args:
        target: Where the finished folder shall be.
        overwrite: Whether a finished dataset may be replaced.

    Yields:
        An empty folder on the same disk.

    Raises:
        DatasetError: If the target exists and may not be replaced, or another run is writing it now.
    """
    if target.exists() and not overwrite:
        raise DatasetError(f"{target} exists: choose another name=..., or replace it with overwrite=true")
    unfinished = target.with_name(f".{target.name}.unfinished")
    replaced = target.with_name(f".{target.name}.replaced")
    unfinished.mkdir(parents=True, exist_ok=True)
    lock = os.open(unfinished, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"another run is writing {target} now: wait for it, or choose another name=..."
            ) from None
        _empty(unfinished)
        try:
            yield unfinished
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
        if target.exists():
            os.rename(target, replaced)
        os.rename(unfinished, target)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        os.close(lock)


def _empty(folder: Path) -> None:
    leftovers = list(folder.iterdir())
    if leftovers:
        _LOG.warning("removing what an earlier run left unfinished in %s", folder)
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
