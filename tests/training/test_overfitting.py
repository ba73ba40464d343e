"""The smoke test, where a loss cannot fall to zero and where settings decide what is learned."""

import pytest

from roomrec.errors import TrainingError
from tests.training.test_train import small_config
from training import overfitting
from training.overfitting import overfit_one_batch


@pytest.mark.parametrize(
    "choice",
    [
        ["optimizer.lr=0.02"],
        ["loss=cosine_contrastive", "model.temperature=1", "optimizer.lr=0.02"],
        ["negatives=popularity", "negatives.num_negatives=6"],
    ],
)
def test_one_batch_of_whole_users_is_learned_by_heart(markov_dataset, tmp_path, choice):
    config = small_config(markov_dataset, tmp_path, "model=two_tower_graph", "model.embedding_dim=32", *choice)
    fit = overfit_one_batch(config)
    assert fit.last_loss < 0.2 * fit.first_loss
    assert list(tmp_path.iterdir()) == []


def test_what_the_loss_cannot_fall_below_is_said(markov_dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(overfitting, "MAX_STEPS", 2)
    settings = ("model=two_tower_graph", "loss=cosine_contrastive", "model.temperature=1", "optimizer.lr=1e-9")
    # Twelve products are offered: a weight of 150 pushes a positive back to the margin, and .1 of the loss is left.
    with pytest.raises(
        overfitting.TrainingError, match=r"not below 10% .*, counted from the 0\.1 below which it cannot"
    ):
        overfit_one_batch(small_config(markov_dataset, tmp_path, *settings))


def test_side_features_count_only_where_they_do_in_training(live_dataset, tmp_path, monkeypatch):
    specs = []
    make = overfitting.make_module

    def make_and_look(config, spec, **more):
        specs.append(spec)
        return make(config, spec, **more)

    monkeypatch.setattr(overfitting, "make_module", make_and_look)
    monkeypatch.setattr(overfitting, "MAX_STEPS", 0)
    for side_features in ("true", "false"):
        with pytest.raises(TrainingError):
            overfit_one_batch(small_config(live_dataset, tmp_path, f"side_features={side_features}"))
    assert [spec.has_side_features for spec in specs] == [True, False]
