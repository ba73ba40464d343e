"""The kinds of endpoints that faults need."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from scripts.chaos_faults.endpoint import Endpoint


@contextmanager
def plain(folder: Path) -> Iterator[Endpoint]:
    """Two replicas, SQLite and LMDB."""
    with Endpoint(folder) as endpoint:
        yield endpoint


STAGES: Final[dict[str, Callable[[Path], AbstractContextManager[Endpoint]]]] = {"plain": plain}
"""By name."""
