"""Where training examples begin and end in the flat histories: windows for sequences, places for single targets."""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import TRAIN_SPLIT
from roomrec.sequences.histories import Histories

Int64Array = npt.NDArray[np.int64]

_EVERY: Final = slice(None)

NOTHING_TO_LEARN: Final = (
    "the train split has no user with a target after another event: preprocess a longer log, move "
    "splitting.validation_from later, or count more event types as labels.target_types"
)
"""What to say of a dataset without training examples."""


class Windows(NamedTuple):
    """W stretches ``[start, stop)`` of the flat histories: the last event is only a target, the first only an input."""

    row: Int64Array
    """[W] row of Histories"""
    start: Int64Array
    """[W]"""
    stop: Int64Array
    """[W]"""


def train_stops(histories: Histories) -> Int64Array:
    """Return for each user one past the newest training event, shape ``[U]``.

    Training events come before the others in every history, since splits are cut by time.
    """
    seen = np.concatenate([[0], np.cumsum(histories.split == TRAIN_SPLIT, dtype=np.int64)])
    return np.asarray(histories.offsets[:-1] + seen[histories.offsets[1:]] - seen[histories.offsets[:-1]])


def train_targets(histories: Histories, place: Int64Array | slice = _EVERY) -> npt.NDArray[np.bool_]:
    """Say for each event, or for those at some places, whether a model may learn to predict it, shape ``[T]``."""
    is_train = histories.split[place] == TRAIN_SPLIT
    return np.asarray(histories.target[place] & is_train & (histories.item_index[place] >= FIRST_INDEX))


def cut_windows(offsets: Int64Array, stops: Int64Array, *, max_sequence_length: int) -> Windows:
    """Cut each history ``[offset, stop)`` into windows of at most L + 1 events, newest first.

    Neighbouring windows share one event, the target of the one and the first input of the other, so every event but a
    user's first is a target exactly once.

    Args:
        offsets: First event of each user, shape ``[U]``.
        stops: One past the last event of each user, shape ``[U]``.
        max_sequence_length: L, the most inputs of a window.

    Returns:
        The windows, users in order.

    Raises:
        ValueError: If ``max_sequence_length`` is below 1.

    Example:
        >>> windows = cut_windows(np.array([0, 6]), np.array([6, 7]), max_sequence_length=3)
        >>> windows.start, windows.stop
        (array([2, 0]), array([6, 3]))
    """
    if max_sequence_length < 1:
        raise ValueError(f"max_sequence_length must be at least 1, received {max_sequence_length}")
    num_windows = np.maximum(stops - offsets - 1 + max_sequence_length - 1, 0) // max_sequence_length
    row = np.repeat(np.arange(len(offsets)), num_windows)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    stop = stops[row] - nth * max_sequence_length
    start = np.maximum(offsets[row], stop - max_sequence_length - 1)
    return Windows(row, start, stop)


def with_targets(windows: Windows, target: npt.NDArray[np.bool_]) -> Windows:
    """Keep the windows in which something after the first event may be predicted.

    Args:
        windows: Any windows.
        target: For each event of the flat histories whether it is a target, shape ``[T]``.
    """
    seen = np.concatenate([[0], np.cumsum(target, dtype=np.int64)])
    kept = seen[windows.stop] > seen[windows.start + 1]
    return Windows(windows.row[kept], windows.start[kept], windows.stop[kept])
