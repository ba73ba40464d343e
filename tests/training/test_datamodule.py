"""Which steps of which epoch a process draws, and how batches reach its device."""

from typing import Any, NamedTuple

import pytest
import torch

from roomrec.sequences.dataset import ProcessedDataset
from tests.training.test_train import small_config
from training.assembly import make_source
from training.datamodule import BatchDataModule, StepSampler


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


class _Jagged:
    """Remembers how it was copied."""

    def to(self, device: torch.device, non_blocking: bool = False) -> Any:
        return (device.type, non_blocking)


class _Batch(NamedTuple):
    features: Any
    num_users: int
    missing: None


@pytest.mark.parametrize(("device", "non_blocking"), [("cuda", True), ("cpu", False)])
def test_jagged_tensors_are_copied_without_waiting(device, non_blocking):
    module = BatchDataModule(source=None, num_workers=0)  # type: ignore[arg-type]
    batch = _Batch(features=_Jagged(), num_users=3, missing=None)
    moved = module.transfer_batch_to_device(batch, torch.device(device), 0)
    assert moved == _Batch(features=(device, non_blocking), num_users=3, missing=None)


@pytest.mark.parametrize("model", ["sasrec", "two_tower", "two_tower_graph"])
def test_a_batch_stays_what_it_is(markov_dataset, tmp_path, model):
    source = make_source(
        small_config(markov_dataset, tmp_path, f"model={model}"), ProcessedDataset.open(markov_dataset)
    )
    batch = source.batch(0, 0)
    moved = BatchDataModule(source=source, num_workers=0).transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert type(moved) is type(batch)
    assert torch.equal(moved.candidates.positive, batch.candidates.positive)
    if model != "sasrec":
        assert moved.features.to_dict().keys() == batch.features.to_dict().keys()
        assert torch.equal(moved.features.values(), batch.features.values())
        assert torch.equal(moved.features.lengths(), batch.features.lengths())
