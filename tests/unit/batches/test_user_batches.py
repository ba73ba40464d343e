"""Batches of whole users."""

from functools import partial

import numpy as np
import pytest

from roomrec.batches.negatives import (
    AvailableNegatives,
    InBatchNegatives,
    MixedNegatives,
    PopularityNegatives,
    UniformNegatives,
)
from roomrec.batches.user_batches import UserBatches
from roomrec.errors import ConfigurationError, DatasetError
from roomrec.features.as_of import PRODUCT_KIND
from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop

USERS = [[3, 1, 4, 8, 8], [2, 5, 5], [0, 6, 7, 7]]  # the last two of each are held out


def open_shop(path, users=USERS) -> ProcessedDataset:
    return ProcessedDataset.open(write_shop(path / "dataset", users, num_products=9))


def batches(dataset, *, num_negatives=100, batch_size=9, max_sequence_length=9) -> UserBatches:
    return UserBatches(
        dataset=dataset,
        negatives=UniformNegatives(dataset=dataset, num_negatives=num_negatives),
        max_sequence_length=max_sequence_length,
        batch_size=batch_size,
        seed=0,
    )


def chosen_by_user(batch) -> dict[int, list[int]]:
    users = batch.features["user"].values().tolist()
    products = batch.features["product"].values()[batch.candidates.positive].tolist()
    chosen: dict[int, list[int]] = {user: [] for user in users}
    for row, product in zip(batch.candidates.positive_user.tolist(), products, strict=True):
        chosen[users[row]].append(product)
    return chosen


def test_everything_a_user_chose_in_training_is_his_target(tmp_path):
    batch = batches(open_shop(tmp_path)).batch(0, 0)
    assert chosen_by_user(batch) == {2: [5, 3, 6], 3: [4], 4: [2, 8]}
    assert batch.num_users == 3


def test_the_history_is_the_newest_of_the_train_split(tmp_path):
    batch = batches(open_shop(tmp_path), max_sequence_length=2).batch(0, 0)
    history = batch.features["history_product"]
    rows = np.split(history.values().numpy(), np.cumsum(history.lengths().numpy())[:2])
    users = batch.features["user"].values().tolist()
    histories = {user: row.tolist() for user, row in zip(users, rows, strict=True)}
    assert histories == {2: [3, 6], 3: [4], 4: [2, 8]}


def test_every_item_is_offered_when_there_are_no_more(tmp_path):
    batch = batches(open_shop(tmp_path)).batch(0, 0)
    assert batch.candidates.negative is None
    assert batch.features["product"].values().tolist() == list(range(2, 11))


def test_some_items_are_offered_to_all(tmp_path):
    batch = batches(open_shop(tmp_path), num_negatives=4).batch(0, 0)
    assert batch.candidates.negative.shape == (4,)
    assert batch.candidates.negative_log_q.tolist() == [0.0] * 4


def test_popular_items_come_with_their_rate(tmp_path):
    dataset = open_shop(tmp_path)
    negatives = PopularityNegatives(dataset=dataset, num_negatives=5, exponent=1.0)
    source = UserBatches(dataset=dataset, negatives=negatives, max_sequence_length=9, batch_size=9, seed=0)
    # Six training events, each of another product.
    np.testing.assert_allclose(source.batch(0, 0).candidates.negative_log_q, np.log(1 / 6), rtol=1e-6)


def test_an_epoch_shows_every_user_once_and_the_next_in_another_order(tmp_path):
    source = batches(open_shop(tmp_path, [[user, 0, 8, 8] for user in range(8)]), batch_size=3)
    orders = [
        [user for step in range(3) for user in source.batch(epoch, step).features["user"].values().tolist()]
        for epoch in range(2)
    ]
    assert len(source) == 3
    assert [sorted(order) for order in orders] == [list(range(2, 10))] * 2
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    "make",
    [
        partial(InBatchNegatives, num_negatives=4),
        partial(MixedNegatives, num_negatives=4, uniform_share=0.5),
        partial(
            AvailableNegatives,
            num_negatives=4,
            num_room_negatives=0,
            otherwise=partial(InBatchNegatives, num_negatives=4),
        ),
    ],
)
def test_negatives_that_depend_on_the_positive_are_refused(tmp_path, make):
    dataset = open_shop(tmp_path)
    with pytest.raises(ConfigurationError, match="choose negatives=uniform or negatives=popularity"):
        UserBatches(dataset=dataset, negatives=make(dataset=dataset), max_sequence_length=9, batch_size=9, seed=0)


def test_what_is_uniform_where_availability_is_unknown_is_shared(tmp_path):
    dataset = open_shop(tmp_path)
    otherwise = partial(UniformNegatives, num_negatives=100)
    negatives = AvailableNegatives(dataset=dataset, num_negatives=4, num_room_negatives=0, otherwise=otherwise)
    source = UserBatches(dataset=dataset, negatives=negatives, max_sequence_length=9, batch_size=9, seed=0)
    assert source.batch(0, 0).candidates.negative is None


def test_a_log_that_knows_availability_is_refused(live_dataset):
    with pytest.raises(DatasetError, match="log knows what was available when: choose model=two_tower or model=sasrec"):
        batches(ProcessedDataset.open(live_dataset))


def test_a_log_of_rooms_and_products_is_refused(live_dataset):
    dataset = ProcessedDataset.open(live_dataset)
    dataset.summary["knows_availability"] = False
    kind, product = dataset.items.kind.copy(), dataset.items.product.copy()
    kind[4], product[4, 0] = PRODUCT_KIND, FIRST_INDEX
    dataset.items = dataset.items._replace(kind=kind, product=product)
    with pytest.raises(DatasetError, match="log has rooms beside products: choose model=two_tower or model=sasrec"):
        batches(dataset)


def test_a_log_without_training_targets_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no user with a target"):
        batches(open_shop(tmp_path, [[1, 2], [3, 4]]))
