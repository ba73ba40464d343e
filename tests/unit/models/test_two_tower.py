"""Two towers: the jagged path and the dense door."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from roomrec.batches.collate import collate_histories, collate_items
from roomrec.batches.negatives import AvailableNegatives
from roomrec.batches.target_batches import TargetBatches
from roomrec.features.spec import FeatureSpec
from roomrec.models.two_tower import TwoTower
from roomrec.sequences.dataset import ProcessedDataset


def two_tower(spec: FeatureSpec, **changes) -> TwoTower:
    torch.manual_seed(0)
    sizes = {
        "embedding_dim": 8,
        "max_sequence_length": 20,
        "hidden_dim": 12,
        "temperature": 0.5,
        "use_user_id": True,
        "id_dropout_rate": 0.0,
    }
    model = TwoTower(spec=spec, **(sizes | changes))
    for parameter in model.parameters():  # as if trained: nothing is zero by luck
        torch.nn.init.normal_(parameter)
    return model


def with_attributes(dataset: ProcessedDataset) -> ProcessedDataset:
    """Give the items of a dataset bags of none to three attributes."""
    bags = np.random.default_rng(1).integers(1, 9, size=(len(dataset.items.kind), 3))
    bags[np.arange(3) >= (np.arange(len(bags)) % 4)[:, None]] = 0
    dataset.items = dataset.items._replace(attributes=bags)
    dataset.spec = replace(dataset.spec, num_attributes=9, max_attributes=3)
    return dataset


@pytest.mark.parametrize("use_user_id", [True, False])
def test_the_dense_door_gives_the_numbers_of_the_jagged_path(live_dataset, use_user_id):
    dataset = with_attributes(ProcessedDataset.open(live_dataset))
    negatives = AvailableNegatives(dataset=dataset, num_negatives=3, num_room_negatives=0, otherwise=None)
    source = TargetBatches(dataset=dataset, negatives=negatives, max_sequence_length=20, batch_size=10**6, seed=0)
    batch = source.batch(0, 0)
    model = two_tower(dataset.spec, use_user_id=use_user_id).eval()
    user_BD, item_CD = model.training_vectors(batch)

    # The same users and items, padded. Targets of a user are his training events after the first.
    histories = dataset.histories
    lengths = batch.features["history_streamer"].lengths()[: batch.num_users].numpy()
    users = batch.features["user"].values().numpy()
    row = np.searchsorted(histories.user_index, users)
    start = histories.offsets[row]
    dense = collate_histories(histories, row=row, start=start, stop=start + lengths)
    torch.testing.assert_close(user_BD * 0.5, model.user_encoder(*dense))
    # The three rooms of the first hour are nobody's target: nothing came before them.
    rooms = np.arange(5, 26)
    torch.testing.assert_close(item_CD, model.item_encoder(*collate_items(dataset.items, rooms)))


def test_vectors_have_length_one():
    model = two_tower(FeatureSpec(num_users=2, num_streamers=5, num_products=6))
    column = torch.tensor([[2, 3], [0, 2]])
    vectors = model.user_encoder(column, column, column, column, column, torch.tensor([0, 0]))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))


def test_an_unknown_user_without_history_gives_numbers():
    model = two_tower(FeatureSpec(num_users=2, num_streamers=5, num_products=6), hidden_dim=0)
    nothing = torch.zeros(1, 3, dtype=torch.long)
    assert model.user_encoder(nothing, nothing, nothing, nothing, nothing, torch.tensor([0])).tolist() == [[0.0] * 8]


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match=r"temperature must be above 0, received 0\.0"):
        two_tower(FeatureSpec(num_users=2, num_streamers=5, num_products=6), temperature=0.0)
