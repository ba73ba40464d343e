"""An easy world is learned, a hopeless one is not."""

import numpy as np
import pytest

from tests.training.test_train import small_config
from tests.worlds import write_shop
from training.train import run

pytestmark = pytest.mark.slow

EASY = ["model.embedding_dim=32", "max_epochs=40", "patience=40", "validation.ks=[1,10]"]


SEQUENCE_MODELS = [
    "model=sasrec",
    "model=sasrec model.block.norm_first=false",
    "model=esasrec",
    "model=bsarec",
    "model=hstu",
]


@pytest.mark.parametrize("negatives", ["num_negatives=5", "num_negatives=100"])
@pytest.mark.parametrize("loss", ["softmax", "bce", "gbce"])
def test_every_loss_learns_a_markov_chain_from_some_or_all_items(markov_dataset, tmp_path, loss, negatives):
    config = small_config(
        markov_dataset,
        tmp_path,
        *EASY,
        f"loss={loss}",
        "negatives=uniform",
        f"negatives.{negatives}",
        "validation.monitor=val_hr@1",
        "optimizer.lr=5e-3",
    )
    assert run(config).best > 0.75


@pytest.mark.parametrize("model", SEQUENCE_MODELS)
def test_every_block_learns_a_markov_chain(markov_dataset, tmp_path, model):
    config = small_config(
        markov_dataset,
        tmp_path,
        *EASY,
        *model.split(),
        "validation.monitor=val_hr@1",
        "optimizer.lr=5e-3",
    )
    # The likely successor follows in .9 of cases, and in a twelfth of the others by chance: at most .91.
    assert run(config).best > 0.75


@pytest.mark.parametrize("negatives", ["uniform", "popularity", "in_batch", "mixed"])
def test_every_sampler_learns_a_markov_chain(markov_dataset, tmp_path, negatives):
    config = small_config(
        markov_dataset, tmp_path, *EASY, f"negatives={negatives}", "validation.monitor=val_hr@1", "optimizer.lr=5e-3"
    )
    assert run(config).best > 0.75


def test_the_hardest_negatives_teach_a_markov_chain(markov_dataset, tmp_path):
    config = small_config(
        markov_dataset,
        tmp_path,
        *EASY,
        "loss=hardest_softmax",
        "loss.num_hardest=3",
        "negatives=uniform",
        "validation.monitor=val_hr@1",
        "optimizer.lr=5e-3",
    )
    assert run(config).best > 0.75


WHOLE_USERS = ["batches._target_=roomrec.batches.user_batches.UserBatches", "negatives=uniform"]


@pytest.mark.parametrize(
    "model",
    [
        ["model=two_tower_graph"],
        ["model=two_tower", "model.use_user_id=true", "loss=user_softmax", *WHOLE_USERS],
        ["model=two_tower", "model.temperature=1", "loss=cosine_contrastive", "loss.negative_weight=10", *WHOLE_USERS],
    ],
)
def test_whole_users_teach_which_half_of_a_shop_they_like(tmp_path, model):
    rng = np.random.default_rng(1)
    # All of a user's products are of one half of the shop.
    users = [rng.choice(20, size=12, replace=False) + 20 * (row % 2) for row in range(200)]
    shop = write_shop(tmp_path / "shop", users, num_products=40, filter_seen=True)
    config = small_config(shop, tmp_path, *EASY, *model, "validation.monitor=val_hr@10", "optimizer.lr=2e-2")
    # Of twenty in a half eleven are seen, the target is among the nine others: chance over both halves is .34.
    assert run(config).best > 0.97


def test_nobody_learns_noise(hopeless_dataset, tmp_path):
    result = run(small_config(hopeless_dataset, tmp_path, *EASY))
    # Ten of fifty products are shown: chance is .2, and 300 users leave it within .1.
    assert 0.1 < result.metrics["val_hr@10"] < 0.3


@pytest.mark.parametrize("model", ["sasrec", "two_tower"])
def test_viewers_get_the_live_room_they_like(live_dataset, tmp_path, model):
    config = small_config(
        live_dataset,
        tmp_path,
        *EASY,
        f"model={model}",
        "validation.ks=[1,2]",
        "validation.monitor=val_hr@2",
        "optimizer.lr=5e-3",
    )
    # Of three live rooms one or two are of the viewer's category: the right one is among the first two, chance is .67.
    assert run(config).best > 0.97
