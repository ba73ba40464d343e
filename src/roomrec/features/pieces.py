"""Values of a column a piece at a time: turning millions of them into Python objects keeps a thread to itself."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import pyarrow as pa

Pause = Callable[[], None]
"""Called between pieces of long work: a thread that loads leaves the others their time there."""

VALUES_AT_ONCE: Final = 1_024
"""Takes less than a millisecond."""


def no_pause() -> None:
    """Go on at once."""


def python_values(column: pa.Array | pa.ChunkedArray, *, pause: Pause = no_pause) -> Iterator[Any]:
    """Yield the values of a column as Python objects.

    Arrow converts a column without ever letting another thread run; here others have their turn after each piece.

    Args:
        column: Of any type.
        pause: Called after each piece of ``VALUES_AT_ONCE``.

    Example:
        >>> list(python_values(pa.array(["mia", None])))
        ['mia', None]
    """
    for start in range(0, len(column), VALUES_AT_ONCE):
        yield from column.slice(start, VALUES_AT_ONCE).to_pylist()
        pause()
