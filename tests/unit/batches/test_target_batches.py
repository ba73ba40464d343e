"""Batches of single targets, and users and items as one jagged tensor."""

import json

import numpy as np
import pytest

from roomrec.batches.collate import lay_out
from roomrec.batches.negatives import UniformNegatives
from roomrec.batches.target_batches import TargetBatches, sample_others
from roomrec.errors import DatasetError
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop


def open_shop(path, users, *, ordered: bool = True) -> ProcessedDataset:
    folder = write_shop(path / "dataset", users, num_products=9)
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"ordered": ordered}))
    return ProcessedDataset.open(folder)


def only_batch(dataset, **kwargs):
    negatives = UniformNegatives(dataset=dataset, num_negatives=2)
    return TargetBatches(dataset=dataset, negatives=negatives, batch_size=9, seed=0, **kwargs).batch(0, 0)


def histories_of(batch) -> list[list[int]]:
    jagged = batch.features["history_product"]
    rows = np.split(jagged.values().numpy(), np.cumsum(jagged.lengths().numpy())[:-1])
    return [row.tolist() for row in rows[: batch.num_users]]


def positives_of(batch) -> list[int]:
    products = batch.features["product"].values()
    return products[batch.candidates.positive].tolist()


def test_the_history_is_what_came_before(tmp_path):
    batch = only_batch(open_shop(tmp_path, [[3, 1, 4, 5, 8, 8]]), max_sequence_length=2)
    pairs = dict(zip(positives_of(batch), histories_of(batch), strict=True))
    assert pairs == {3: [5], 6: [5, 3], 7: [3, 6]}


def test_without_order_the_history_is_everything_else(tmp_path):
    batch = only_batch(open_shop(tmp_path, [[3, 1, 4, 8, 8]], ordered=False), max_sequence_length=5)
    pairs = dict(zip(positives_of(batch), histories_of(batch), strict=True))
    assert pairs == {5: [3, 6], 3: [5, 6], 6: [5, 3]}


def test_items_are_rows_below_the_users(tmp_path):
    batch = only_batch(open_shop(tmp_path, [[3, 1, 4, 8, 8]]), max_sequence_length=5)
    assert batch.features.stride() == batch.num_users + len(batch.features["product"].values())
    assert batch.features["product"].lengths()[: batch.num_users].tolist() == [0, 0]
    assert batch.features["history_product"].lengths()[batch.num_users :].sum() == 0


def test_how_many_values_a_feature_has_needs_no_look_at_them(tmp_path):
    batch = only_batch(open_shop(tmp_path, [[3, 1, 4, 5, 8, 8]]), max_sequence_length=2)
    expected = {"user": 3, "history_streamer": 0, "history_product": 5, "product": 4}
    # On a GPU a look at lengths would wait for the device; "meta" has none to look at.
    for features in (batch.features, batch.features.to("meta")):
        counts = dict(zip(features.keys(), features.length_per_key(), strict=True))
        assert {name: count for name, count in counts.items() if name in expected} == expected


def test_a_long_history_without_order_is_sampled():
    stretches = lay_out(np.array([0, 100]), np.array([50, 103]))
    place = np.array([7, 101])
    sampled = sample_others(stretches, place, max_length=10, rng=np.random.default_rng(0))
    assert sampled.length.tolist() == [10, 2]
    assert sampled.place[10:].tolist() == [100, 102]
    assert 7 not in sampled.place
    assert len(set(sampled.place.tolist())) == 12
    assert sampled.nth.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]


def test_a_target_without_history_is_not_enough(tmp_path):
    with pytest.raises(DatasetError, match="train split has no user"):
        only_batch(open_shop(tmp_path, [[1, 2, 3]]), max_sequence_length=5)
