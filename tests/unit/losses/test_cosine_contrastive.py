"""Chosen items near, others no nearer than a margin."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from roomrec.batches.batch import ChosenItems
from roomrec.losses.cosine_contrastive import CosineContrastive
from tests.unit.losses.whole_users import chosen


def test_numbers_by_hand():
    # Cosines .8, .6, 0: one minus .8, plus four times the mean of .3, .1 and nothing.
    items = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    loss = CosineContrastive(margin=0.5, negative_weight=4.0)
    assert loss(torch.tensor([[1.0, 0.0]]), items, chosen([0], [0])).item() == pytest.approx(0.2 + 1.6 / 3)
    assert loss(torch.tensor([[1.0, 0.0]]), items, chosen([0], [0], [1, 2])).item() == pytest.approx(0.2 + 0.2)


def test_a_user_of_three_positives_weighs_three_times():
    users, items = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # The first user's excess is (.5 + .1) / 2, the second's (0 + .3) / 2; positives have cosines .6 thrice and 1.
    loss = CosineContrastive(margin=0.5, negative_weight=2.0)(users, items, chosen([1, 1, 1, 0], [0, 0, 0, 0]))
    assert loss.item() == pytest.approx(1 - (3 * 0.6 + 1.0) / 4 + 2 * 0.3)
    loss = CosineContrastive(margin=0.5, negative_weight=2.0)(users, items, chosen([1, 1, 1, 1], [0, 0, 0, 1]))
    assert loss.item() == pytest.approx(1 - (3 * 0.6 + 0.8) / 4 + 2 * (3 * 0.3 + 0.15) / 4)


def test_what_is_offered_twice_as_often_counts_half():
    items = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    batch = chosen([0], [0], [1, 2], [0.0, 0.693147])
    loss = CosineContrastive(margin=0.5, negative_weight=1.0)(torch.tensor([[1.0, 0.0]]), items, batch)
    assert loss.item() == pytest.approx((2 * 0.3 + 0.1) / 3, abs=1e-6)


@pytest.mark.parametrize("sampled", [False, True])
def test_loss_and_gradients_are_those_of_the_definition_whatever_the_chunks(monkeypatch, sampled):
    monkeypatch.setattr("roomrec.losses.cosine_contrastive._USERS_AT_ONCE", 3)
    monkeypatch.setattr("roomrec.losses.cosine_contrastive._ITEMS_AT_ONCE", 4)
    generator = torch.Generator().manual_seed(1)
    users = F.normalize(torch.randn(7, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    items = F.normalize(torch.randn(10, 3, dtype=torch.float64, generator=generator)).requires_grad_()
    positive = torch.randint(10, (20,), generator=generator)
    of_user = torch.randint(7, (20,), generator=generator).sort().values
    negative = torch.tensor([3, 4, 4, 9, 0, 7]) if sampled else None
    offered = items if negative is None else items[negative]
    excess = (users @ offered.T - 0.3).clamp(min=0.0).mean(dim=1)
    plain = (1.0 - (users[of_user] * items[positive]).sum(dim=1) + 5.0 * excess[of_user]).mean()
    batch = ChosenItems(positive, of_user, negative, None)
    loss = CosineContrastive(margin=0.3, negative_weight=5.0)(users, items, batch)
    torch.testing.assert_close(loss, plain)
    expected = torch.autograd.grad(plain, (users, items))
    torch.testing.assert_close(torch.autograd.grad(loss, (users, items)), expected)


def test_gradients_against_finite_differences():
    generator = torch.Generator().manual_seed(2)
    users = torch.randn(4, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    items = torch.randn(5, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    loss = CosineContrastive(margin=0.2, negative_weight=3.0)
    batch = chosen([0, 3, 2, 2], [0, 0, 1, 3])
    assert torch.autograd.gradcheck(lambda u, i: loss(u, i, batch), (users, items))


def test_under_autocast_loss_and_gradients_are_close_in_float32():
    generator = torch.Generator().manual_seed(3)
    users = F.normalize(torch.randn(30, 8, generator=generator)).requires_grad_()
    items = F.normalize(torch.randn(40, 8, generator=generator)).requires_grad_()
    # A cosine that rounding moves over the margin would push in one precision alone: none is as near as that.
    clear = (users @ items.T - 0.3).abs().min(dim=0).values > 0.01
    items = items[clear].detach().requires_grad_()
    assert len(items) == 24
    batch = chosen([row % 24 for row in range(30)], list(range(30)))
    loss = CosineContrastive(margin=0.3, negative_weight=2.0)
    plain = loss(users, items, batch)
    expected = torch.autograd.grad(plain, (users, items))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = loss(users, items, batch)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, plain, rtol=0.01, atol=0.0)
    for found, wanted in zip(torch.autograd.grad(narrow, (users, items)), expected, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.005 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("settings", "named"), [((1.5, 1.0), "margin .* received 1.5"), ((0.5, 0.0), "negative_weight .* received 0.0")]
)
def test_senseless_settings_are_named(settings, named):
    with pytest.raises(ValueError, match=named):
        CosineContrastive(margin=settings[0], negative_weight=settings[1])


@pytest.mark.parametrize(
    ("weight", "positive", "offered", "floor"),
    [
        (2.0, [1], None, 0.3 * 0.5),  # of four items one is the positive: half of what exceeds the margin is left
        (9.0, [1], None, 0.3),  # it is pushed back to the margin
        (2.0, [1, 3], [0, 1, 2, 2], 0.3 * 0.25),  # the second is not offered
    ],
)
def test_what_perfect_vectors_come_to(weight, positive, offered, floor):
    loss, batch = CosineContrastive(margin=0.7, negative_weight=weight), chosen(positive, range(len(positive)), offered)
    assert loss.floor(batch, num_items=4) == pytest.approx(floor)
    cosine = 0.7 if floor == 0.3 else 1.0
    users = torch.eye(5)[positive] * cosine + torch.eye(5)[4] * (1.0 - cosine**2) ** 0.5
    assert loss(users, torch.eye(5)[:4], batch).item() == pytest.approx(floor, abs=1e-6)
