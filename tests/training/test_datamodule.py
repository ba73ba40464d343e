"""Which steps of which epoch a process draws."""

import pytest

from training.datamodule import StepSampler


@pytest.mark.parametrize(
    ("global_step", "rank", "expected"),
    [
        (0, 0, [(0, 0), (0, 2), (0, 4)]),
        (0, 1, [(0, 1), (0, 3), (0, 5)]),
        (2, 0, [(0, 4)]),
        (3, 1, [(1, 1), (1, 3), (1, 5)]),
        (7, 0, [(2, 2), (2, 4)]),
    ],
)
def test_two_processes_share_seven_batches(global_step, rank, expected):
    sampler = StepSampler(num_batches=7, rank=rank, num_ranks=2, global_step=lambda: global_step)
    assert len(sampler) == 3
    assert list(sampler) == expected


def test_more_processes_than_batches_still_get_one_each():
    sampler = StepSampler(num_batches=2, rank=2, num_ranks=3, global_step=lambda: 5)
    assert list(sampler) == [(5, 0)]
