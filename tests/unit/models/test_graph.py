"""Smoothing along who took what."""

import numpy as np
import torch

from roomrec.models.graph import InteractionGraph
from roomrec.sequences.dataset import ProcessedDataset
from tests.worlds import write_shop

# User 0 took products 0 and 1, user 1 took product 1 four times, user 2 nothing.
GRAPH = InteractionGraph.of_edges(
    np.array([0, 1, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 1]), num_users=3, num_products=2
)
PRODUCTS = torch.tensor([[2.0], [10.0]])
USERS = torch.tensor([[2.0], [10.0], [99.0]])


def test_pooled_by_user():
    expected = torch.tensor([[12 / 2**0.5], [40 / 2], [0.0]])
    torch.testing.assert_close(GRAPH.pooled_by_user(PRODUCTS), expected)


def test_spread_to_users():
    # Product 1 has five edges: user 0 gets 2 / sqrt(2 * 1) + 10 / sqrt(2 * 5), user 1 gets 4 * 10 / sqrt(4 * 5).
    expected = torch.tensor([[4.576491], [8.944272], [0.0]])
    torch.testing.assert_close(GRAPH.spread_to_users(PRODUCTS), expected)


def test_spread_to_products():
    # Product 0 gets 2 / sqrt(2 * 1), product 1 gets 2 / sqrt(2 * 5) + 4 * 10 / sqrt(4 * 5).
    expected = torch.tensor([[1.414214], [9.576727]])
    torch.testing.assert_close(GRAPH.spread_to_products(USERS), expected)


def test_gradients_against_finite_differences():
    products = PRODUCTS.double().requires_grad_()
    users = USERS.double().requires_grad_()
    assert torch.autograd.gradcheck(GRAPH.spread_to_users, products)
    assert torch.autograd.gradcheck(GRAPH.spread_to_products, users)


def test_edges_are_training_events_of_known_products(tmp_path):
    dataset = ProcessedDataset.open(write_shop(tmp_path / "dataset", [[0, 1, 2, 2], [2, 0, 0]], num_products=3))
    graph = InteractionGraph.of_training(dataset.histories, num_users=4, num_products=5)
    assert graph.product_of_user.tolist() == [2, 3, 4]
    assert graph.user_offsets.tolist() == [0, 0, 0, 2, 3]
    assert graph.user_of_product.tolist() == [2, 2, 3]
    assert graph.product_offsets.tolist() == [0, 0, 0, 1, 2, 3]
