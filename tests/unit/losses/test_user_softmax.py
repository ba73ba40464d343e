"""One softmax a user."""

import pytest
import torch

from roomrec.batches.batch import ChosenItems
from roomrec.losses.user_softmax import LARGEST_LOGIT, UserSoftmax
from tests.unit.losses.whole_users import chosen


def test_numbers_by_hand():
    # e^0, e^ln2, e^ln5: the denominator is 8, the two positives have shares 2/8 and 5/8.
    items = torch.tensor([[1.0], [2.0], [5.0]]).log()
    loss = UserSoftmax()(torch.tensor([[1.0]]), items, chosen([1, 2], [0, 0]))
    assert loss.item() == pytest.approx((1.386294 + 0.470004) / 2, abs=1e-5)


def test_a_user_of_three_positives_weighs_three_times():
    users, items = torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [3.0]]).log()
    loss = UserSoftmax()(users, items, chosen([1, 1, 1, 0], [0, 0, 0, 1]))
    assert loss.item() == pytest.approx((3 * 0.287682 + 0.693147) / 4, abs=1e-5)


def test_what_is_offered_twice_as_often_counts_half():
    items = torch.zeros(3, 1)
    loss = UserSoftmax()(torch.ones(1, 1), items, chosen([0], [0], [1, 2], [0.0, 0.693147]))
    # Offered rates 1 and 2: the denominator is e^0 / 1 + e^0 / 2, up to the constant of the largest weight.
    assert loss.item() == pytest.approx(0.405465, abs=1e-5)


@pytest.mark.parametrize("sampled", [False, True])
def test_loss_and_gradients_are_those_of_plain_cross_entropy_whatever_the_chunks(monkeypatch, sampled):
    monkeypatch.setattr("roomrec.losses.user_softmax._USERS_AT_ONCE", 3)
    monkeypatch.setattr("roomrec.losses.user_softmax._ITEMS_AT_ONCE", 4)
    generator = torch.Generator().manual_seed(1)
    users = torch.randn(7, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    items = torch.randn(10, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    positive = torch.randint(10, (20,), generator=generator)
    of_user = torch.randint(7, (20,), generator=generator).sort().values
    negative = torch.tensor([3, 4, 4, 9, 0, 7]) if sampled else None
    log_q = torch.randn(6, dtype=torch.float64, generator=generator) if sampled else None
    offered = items if negative is None else items[negative]
    logits = users @ offered.T - (0.0 if log_q is None else log_q)
    own = (users[of_user] * items[positive]).sum(dim=1)
    plain = (torch.logsumexp(logits, dim=1)[of_user] - own).mean()
    loss = UserSoftmax()(users, items, ChosenItems(positive, of_user, negative, log_q))
    expected = torch.autograd.grad(plain, (users, items))
    torch.testing.assert_close(torch.autograd.grad(loss, (users, items)), expected)
    shift = 0.0 if log_q is None else float((-log_q).max())
    assert loss.item() == pytest.approx(plain.item() - shift)


@pytest.mark.parametrize("sampled", [False, True])
def test_gradients_against_finite_differences(sampled):
    generator = torch.Generator().manual_seed(2)
    users = torch.randn(4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    items = torch.randn(5, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    batch = chosen([0, 3, 2, 2], [0, 0, 1, 3], [1, 4] if sampled else None, None)
    assert torch.autograd.gradcheck(lambda u, i: UserSoftmax()(u, i, batch), (users, items))


def test_under_autocast_it_is_close_and_gives_float32():
    generator = torch.Generator().manual_seed(3)
    users = torch.randn(30, 8, generator=generator, requires_grad=True)
    items = torch.randn(40, 8, generator=generator, requires_grad=True)
    batch = chosen(list(range(30)), list(range(30)))
    plain = torch.nn.functional.cross_entropy(users @ items.T, torch.arange(30))
    expected = torch.autograd.grad(plain, (users, items))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = UserSoftmax()(users, items, batch)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=0.01, atol=0.02)
    for gradient, exact in zip(torch.autograd.grad(loss, (users, items)), expected, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, exact, rtol=0.05, atol=3e-3)


def test_the_largest_logits_are_summed_without_loss():
    # A full house of the largest logit, and another user with all at its opposite.
    users, items = torch.tensor([[LARGEST_LOGIT], [-LARGEST_LOGIT]], requires_grad=True), torch.ones(3000, 1)
    loss = UserSoftmax()(users, items, chosen([0, 1], [0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(8.006368, abs=1e-4)  # log 3000
    assert torch.isfinite(users.grad).all()


def test_a_positive_that_was_not_drawn_is_not_in_the_denominator():
    loss = UserSoftmax()(torch.ones(1, 1), torch.tensor([[5.0], [1.0]]), chosen([0], [0], [1, 1]))
    assert loss.item() == pytest.approx(1.0 + 0.693147 - 5.0, abs=1e-5)
