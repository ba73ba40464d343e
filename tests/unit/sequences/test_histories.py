"""Blocks of users."""

import numpy as np

from roomrec.sequences import histories as histories_module
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.histories import block_bounds, blocks_of, cut_block
from tests.worlds import write_shop


def test_nobody_is_cut():
    assert block_bounds(np.array([0, 4, 5, 5, 30, 31]), events_per_block=5).tolist() == [0, 2, 4, 5]
    assert block_bounds(np.array([0, 4, 5]), events_per_block=100).tolist() == [0, 2]


def test_a_block_counts_from_its_own_first_event(tmp_path):
    users = [[0, 1, 2], [2, 1, 0, 2], [1, 2, 0]]
    dataset = ProcessedDataset.open(write_shop(tmp_path / "shop", users, num_products=3))
    block = cut_block(dataset.histories, 1, 3)
    assert (block.first_row, block.first_event) == (1, 3)
    assert block.histories.offsets.tolist() == [0, 4, 7]
    assert block.histories.user_index.tolist() == [3, 4]
    assert block.histories.product_index.tolist() == [4, 3, 2, 4, 3, 4, 2]


def test_queries_and_counts_do_not_depend_on_blocks(tmp_path, monkeypatch):
    from roomrec.batches.negatives import count_targets

    users = np.random.default_rng(0).integers(9, size=(30, 6)).tolist()
    path = write_shop(tmp_path / "shop", users, num_products=9)
    dataset = ProcessedDataset.open(path)
    asked = [("train", None, True), ("test", 7, True), ("train", None, False), ("train", 11, False)]

    def answers():
        found = []
        for split, max_queries, ordered in asked:
            dataset.summary["ordered"] = ordered
            found.append([column.tolist() for column in dataset.queries(split, max_queries=max_queries)])
        return [*found, count_targets(dataset).tolist()]

    whole = answers()
    assert [len(columns[0]) for columns in whole[:-1]] == [30 * 4, 7, 30, 11]
    defaults = histories_module.block_bounds.__kwdefaults__
    monkeypatch.setitem(defaults, "events_per_block", 8)
    assert len(list(blocks_of(dataset.histories))) > 15
    assert answers() == whole
