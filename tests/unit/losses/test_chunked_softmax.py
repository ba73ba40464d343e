"""The chunked softmax against the plain one."""

import pytest
import torch

from roomrec.losses.chunked_softmax import chunked_softmax


def parts(dtype=torch.float32, num_users=70, num_items=40):
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(num_users, 8, generator=generator, dtype=dtype).requires_grad_()
    items = torch.randn(num_items, 8, generator=generator, dtype=dtype).requires_grad_()
    return users, items, torch.randint(num_items, (num_users,), generator=generator)


@pytest.mark.parametrize("logits_at_once", [1, 1000, 10**6])
def test_any_chunk_size_gives_the_plain_cross_entropy_and_its_gradients(logits_at_once):
    users, items, positive = parts(torch.float64)
    plain = torch.nn.functional.cross_entropy(users @ items.T, positive)
    expected = torch.autograd.grad(plain, (users, items))
    loss = chunked_softmax(users, items[positive], items, positive_place_P=positive, logits_at_once=logits_at_once)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(loss, (users, items)), expected)


def test_under_autocast_it_is_close_and_gives_float32():
    users, items, positive = parts()
    plain = torch.nn.functional.cross_entropy(users @ items.T, positive)
    expected = torch.autograd.grad(plain, (users, items))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = chunked_softmax(users, items[positive], items, positive_place_P=positive)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=0.01, atol=0.01)
    gradients = torch.autograd.grad(loss, (users, items))
    for gradient, exact in zip(gradients, expected, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, exact, rtol=0.05, atol=2e-3)


def test_a_hopeless_positive_gives_a_finite_loss():
    users, items = torch.tensor([[1.0]]), torch.tensor([[-1000.0], [1000.0]])
    loss = chunked_softmax(users, items[[0]], items, positive_place_P=torch.tensor([0]))
    assert torch.isfinite(loss)
