"""Smoothed tables, and the three plain ones they fold into."""

import copy

import numpy as np
import pytest
import torch

from roomrec.batches.collate import collate_histories, collate_items
from roomrec.batches.negatives import UniformNegatives
from roomrec.batches.user_batches import UserBatches
from roomrec.export.onnx import export_item_encoder, export_user_encoder, measure_parity
from roomrec.export.recorded import recorded_histories, recorded_items
from roomrec.features.spec import FeatureSpec
from roomrec.models.graph import InteractionGraph
from roomrec.models.graph_two_tower import GraphTwoTower
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop

USERS = [[3, 1, 4, 8, 8], [2, 5, 5], [0, 6, 3, 7, 7]]


@pytest.fixture
def dataset(tmp_path) -> ProcessedDataset:
    return ProcessedDataset.open(write_shop(tmp_path / "dataset", USERS, num_products=9))


def graph_two_tower(spec: FeatureSpec, **changes) -> GraphTwoTower:
    torch.manual_seed(0)
    sizes = {"embedding_dim": 4, "max_sequence_length": 9, "num_layers": 2, "temperature": 0.5}
    return GraphTwoTower(spec=spec, **(sizes | changes))


def connected(dataset: ProcessedDataset, **changes) -> GraphTwoTower:
    model = graph_two_tower(dataset.spec, **changes)
    spec = dataset.spec
    model.connect(
        InteractionGraph.of_training(dataset.histories, num_users=spec.num_users, num_products=spec.num_products)
    )
    return model


def batch_of(dataset):
    negatives = UniformNegatives(dataset=dataset, num_negatives=100)
    return UserBatches(dataset=dataset, negatives=negatives, max_sequence_length=9, batch_size=9, seed=0).batch(0, 0)


def test_vectors_are_those_of_the_normalised_adjacency_matrix(dataset):
    model, batch = connected(dataset), batch_of(dataset)
    num_users, num_products = dataset.spec.num_users, dataset.spec.num_products
    taken = np.zeros((num_users, num_products), dtype=np.float32)
    for row, events in enumerate(USERS):
        taken[row + 2, [product + 2 for product in events[:-2]]] = 1.0
    square = np.zeros((num_users + num_products,) * 2, dtype=np.float32)
    square[:num_users, num_users:], square[num_users:, :num_users] = taken, taken.T
    root = np.sqrt(np.maximum(square.sum(axis=1), 1.0))
    square /= root[:, None] * root
    tables = torch.cat([model.users.weight, model.products.weight]).detach().numpy()
    layers = [tables, square @ tables, square @ square @ tables]
    vectors = torch.from_numpy(np.mean(layers, axis=0))
    user_BD, item_CD = model.training_vectors(batch)
    expected_users = torch.nn.functional.normalize(vectors[batch.features["user"].values()])
    torch.testing.assert_close(user_BD * 0.5, expected_users)
    torch.testing.assert_close(item_CD, torch.nn.functional.normalize(vectors[num_users + 2 :]))


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_dense_door_gives_the_vectors_of_training(dataset, num_layers):
    model, batch = connected(dataset, num_layers=num_layers), batch_of(dataset)
    user_BD, item_CD = model.training_vectors(batch)
    users = batch.features["user"].values().numpy()
    row = users - 2
    start = dataset.histories.offsets[row]
    stop = start + np.array([len(events) - 2 for events in USERS])[row]
    dense = collate_histories(dataset.histories, row=row, start=start, stop=stop)
    torch.testing.assert_close(model.user_encoder(*dense), user_BD.detach() * 0.5)
    items = collate_items(dataset.items, np.arange(2, 11))
    torch.testing.assert_close(model.item_encoder(*items), item_CD.detach())


def test_saved_weights_need_no_graph(dataset):
    model = connected(dataset)
    with torch.no_grad():
        model.products.weight[2:] += 1.0
    items = collate_items(dataset.items, np.arange(2, 11))
    expected = model.item_encoder(*items)
    fresh = graph_two_tower(dataset.spec)
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh.item_encoder(*items), expected)


def test_a_copy_smooths_its_own_weights(dataset):
    model = connected(dataset)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        model.products.weight.zero_()
        model.users.weight.zero_()
    items = collate_items(dataset.items, np.arange(2, 11))
    assert not model.item_encoder(*items).any()
    assert twin.item_encoder(*items).any()


def test_a_user_unknown_to_training_has_a_vector_from_his_first_event_on(dataset):
    model = connected(dataset)
    column, one = torch.tensor([[0, 5]]), torch.tensor([[0, 7]])
    vector = model.user_encoder(one, one * 0, column, one, one, one, torch.tensor([1]))
    torch.testing.assert_close(vector.norm(), torch.tensor(1.0))
    nothing = torch.zeros(1, 2, dtype=torch.long)
    assert model.user_encoder(*[nothing] * 6, torch.tensor([1])).tolist() == [[0.0] * 4]


def test_both_doors_are_traced_to_onnx_with_the_same_numbers(dataset, tmp_path):
    model = connected(dataset)
    users, items = tmp_path / "users.onnx", tmp_path / "items.onnx"
    export_user_encoder(model.user_encoder, users, max_sequence_length=9)
    export_item_encoder(model.item_encoder, items, spec=dataset.spec)
    recorded = recorded_histories(dataset, max_sequence_length=9)
    assert measure_parity(model.user_encoder, users, recorded, tolerance=1e-5).num_vectors > 256
    assert measure_parity(model.item_encoder, items, recorded_items(dataset), tolerance=1e-5).num_vectors == 12


def test_training_without_a_graph_is_refused(dataset):
    with pytest.raises(ValueError, match="connect"):
        graph_two_tower(dataset.spec).training_vectors(batch_of(dataset))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": -1}, "num_layers must be at least 0, received -1"),
        ({"temperature": 0.0}, r"temperature must be above 0, received 0\.0"),
        ({"spec": FeatureSpec(num_users=3, num_streamers=5, num_products=2)}, "no products"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    spec = changes.pop("spec", FeatureSpec(num_users=3, num_streamers=5, num_products=6))
    with pytest.raises(ValueError, match=message):
        graph_two_tower(spec, **changes)
