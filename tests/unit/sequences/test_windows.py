"""Windows of flat histories."""

import numpy as np
import pytest

from roomrec.sequences.windows import Windows, cut_windows, with_targets


@pytest.mark.parametrize(
    ("offset", "stop", "max_sequence_length", "expected"),
    [
        (0, 0, 3, []),
        (0, 1, 3, []),
        (0, 2, 3, [(0, 2)]),
        (5, 9, 3, [(5, 9)]),
        (5, 10, 3, [(6, 10), (5, 7)]),
        (0, 9, 2, [(6, 9), (4, 7), (2, 5), (0, 3)]),
    ],
)
def test_windows_are_cut_newest_first(offset, stop, max_sequence_length, expected):
    windows = cut_windows(np.array([offset]), np.array([stop]), max_sequence_length=max_sequence_length)
    assert list(zip(windows.start.tolist(), windows.stop.tolist(), strict=True)) == expected


def test_windows_without_a_target_are_left_out():
    windows = Windows(row=np.array([0, 0]), start=np.array([3, 0]), stop=np.array([6, 4]))
    target = np.array([True, False, False, False, True, False])
    kept = with_targets(windows, target)
    assert kept.start.tolist() == [3]


def test_no_window_is_shorter_than_one():
    with pytest.raises(ValueError, match="max_sequence_length"):
        cut_windows(np.array([0]), np.array([5]), max_sequence_length=0)
