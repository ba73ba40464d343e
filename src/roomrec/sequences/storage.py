"""Histories on disk: one ``.npy`` file a column, written part by part, mapped as a whole when read.

What is mapped costs page cache, which the system takes back, and no memory of the process, however many users there
are. Nothing is ever loaded, joined or converted: a column on disk has the very type that readers index.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import numpy as np
import numpy.typing as npt

from roomrec.errors import DatasetError

EVENT_COLUMNS: Final[Mapping[str, np.dtype[Any]]] = {
    "occurred_at_ms": np.dtype(np.int64),
    "event_type": np.dtype(np.int8),
    "streamer_index": np.dtype(np.int32),
    "product_index": np.dtype(np.int32),
    "watch_time_bucket": np.dtype(np.int8),
    "item_index": np.dtype(np.int32),
    "room_item_index": np.dtype(np.int32),
    "target": np.dtype(np.bool_),
    "split": np.dtype(np.int8),
}
"""Columns with one value an event, as ``Histories`` describes them: 28 bytes an event."""

USER_COLUMNS: Final[Mapping[str, np.dtype[Any]]] = {"user_index": np.dtype(np.int64), "offsets": np.dtype(np.int64)}
"""Columns with one value a user; ``offsets`` has one more, the number of events."""

_HEADER_BYTES: Final = 128


class HistoriesWriter:
    """Appends the histories of some users after another to the columns of a folder.

    Args:
        folder: Where the columns go; it must not exist.

    Example::

        with HistoriesWriter(Path("sequences")) as writer:
            writer.append(user_index=np.array([2]), lengths=np.array([3]), columns={"target": ..., ...})
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        kinds = {**USER_COLUMNS, **EVENT_COLUMNS}
        self._files = {name: _ColumnFile(folder / f"{name}.npy", kind) for name, kind in kinds.items()}
        self._num_events = 0
        self._files["offsets"].append(np.zeros(1, dtype=np.int64))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()

    def append(
        self,
        *,
        user_index: npt.NDArray[np.integer],
        lengths: npt.NDArray[np.integer],
        columns: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Append the histories of U users with T events in all.

        Args:
            user_index: Index of each user, shape ``[U]``.
            lengths: Events of each user, shape ``[U]``.
            columns: For each name in ``EVENT_COLUMNS`` the values of all events, users in order, shape ``[T]``.

        Raises:
            ValueError: If a column is missing, unknown or of another length.
        """
        if columns.keys() != EVENT_COLUMNS.keys():
            raise ValueError(f"columns are {sorted(columns)}, expected {sorted(EVENT_COLUMNS)}")
        num_events = int(lengths.sum())
        for name, values in columns.items():
            if len(values) != num_events:
                raise ValueError(f"column {name} has {len(values)} values for {num_events} events")
            self._files[name].append(values)
        self._files["user_index"].append(user_index)
        self._files["offsets"].append(self._num_events + np.cumsum(lengths, dtype=np.int64))
        self._num_events += num_events


def map_columns(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """Map every column of a folder, read-only.

    Args:
        folder: What a ``HistoriesWriter`` wrote.

    Returns:
        Arrays by name: those of ``EVENT_COLUMNS`` ``[T]``, ``user_index`` ``[U]``, ``offsets`` ``[U + 1]``.

    Raises:
        DatasetError: If a column is missing, damaged or of another length than the others.
    """
    expected = {**USER_COLUMNS, **EVENT_COLUMNS}
    if missing := [name for name in expected if not (folder / f"{name}.npy").exists()]:
        raise DatasetError(
            f"{folder} has no {', '.join(f'{name}.npy' for name in missing)}: it holds no sequences, or those of "
            f"another version; preprocess again"
        )
    columns = {name: _mapped(folder / f"{name}.npy", kind) for name, kind in expected.items()}
    num_users, num_events = len(columns["user_index"]), len(columns["event_type"])
    if len(columns["offsets"]) != num_users + 1 or int(columns["offsets"][-1]) != num_events:
        raise DatasetError(f"{folder} is damaged: its offsets do not fit its columns; preprocess again")
    if odd := [name for name in EVENT_COLUMNS if len(columns[name]) != num_events]:
        raise DatasetError(f"{folder} is damaged: {', '.join(odd)} and event_type differ in length; preprocess again")
    return columns


class _ColumnFile:
    """A ``.npy`` file that grows; the header, of a fixed size, is written when the length is known."""

    def __init__(self, path: Path, kind: np.dtype[Any]) -> None:
        self._kind = kind
        self._length = 0
        self._file: BinaryIO = path.open("wb")
        self._file.write(b"\0" * _HEADER_BYTES)

    def append(self, values: npt.NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self._kind).data)
        self._length += len(values)

    def close(self) -> None:
        described = {"descr": np.lib.format.dtype_to_descr(self._kind), "fortran_order": False}
        words = repr(described | {"shape": (self._length,)}).encode()
        # magic, version, length of what follows: as the format wants it, padded with spaces to a fixed size
        head = np.lib.format.magic(1, 0) + (_HEADER_BYTES - 10).to_bytes(2, "little")
        self._file.seek(0)
        self._file.write(head + words.ljust(_HEADER_BYTES - 11) + b"\n")
        self._file.close()


def _mapped(path: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        # a plain array over the mapping: np.memmap would cost a microsecond each time it is indexed
        column = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise DatasetError(f"{path} is damaged ({error}): preprocess again") from error
    if column.dtype != kind or column.ndim != 1:
        raise DatasetError(f"{path} holds {column.dtype} {column.shape}, expected {kind}: preprocess again")
    return column
