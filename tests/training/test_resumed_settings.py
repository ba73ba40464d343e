"""A run goes on only with what decided its steps; the rest may change."""

import shutil

import pytest

from roomrec.errors import ConfigurationError, DatasetError
from tests import worlds
from tests.training.test_train import small_config
from training.opening import open_job
from training.train import run


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A shop, and a folder with a run of one epoch."""
    folder = tmp_path_factory.mktemp("begun")
    run(small_config(worlds.markov_chain_world(folder / "shop", num_users=60), folder, "max_epochs=1"))
    return folder


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ("model.dropout_rate=0.1", r"model.dropout_rate=0.1, but \S+/tiny began with 0.5: a run goes on at the very"),
        ("batches.batch_size=32", r"batches.batch_size=32, but \S+/tiny began with 64: a run goes on at the very step"),
        ("negatives=uniform", r"negatives._target_=\S+UniformNegatives, but \S+/tiny began with \S+AvailableNegatives"),
        ("negatives.otherwise.num_negatives=5", r"negatives.otherwise.num_negatives=5, but \S+ began with 16384:"),
        ("loss=bce", r"loss._target_=\S+BinaryCrossEntropy, but \S+/tiny began with \S+Softmax:"),
        ("optimizer.lr=1e-5", r"optimizer.lr=1e-05, but \S+/tiny began with 0.001:"),
        ("+optimizer.betas=[0.9,0.98]", r"optimizer.betas=\[0.9, 0.98\], but \S+/tiny began with None:"),
        ("seed=1", r"seed=1, but \S+/tiny began with 0:"),
        ("side_features=false", r"side_features=False, but \S+/tiny began with True:"),
        ("warmup_steps=7", r"warmup_steps=7, but \S+/tiny began with 100:"),
        ("trainer=sharded average_epochs=0", r"trainer.tables.optimizer=rowwise_adagrad, but \S+ began with None:"),
        ("validation.monitor=val_hr@10", r"validation.monitor=val_hr@10, but \S+/tiny began with val_ndcg@10:"),
        ("validation.max_queries=9", r"validation.max_queries=9, but \S+/tiny began with 5000:"),
    ],
)
def test_what_decided_the_steps_or_the_best_epoch_stays(begun, changed, sentence):
    with pytest.raises(ConfigurationError, match=rf"^resume=true with {sentence}"):
        open_job(small_config(begun / "shop", begun, "resume=true", *changed.split()))


def test_the_rest_may_change_and_the_dataset_may_lie_elsewhere(begun, tmp_path):
    run(small_config(begun / "shop", tmp_path, "max_epochs=1"))
    shutil.copytree(begun / "shop", tmp_path / "moved")
    changes = ("trainer.num_workers=1", "trainer.precision=bf16-mixed", "patience=3", "tracking={}")
    more = ("guard.max_loss_ratio=null", "validation.ks=[10]", "max_epochs=2")
    assert run(small_config(tmp_path / "moved", tmp_path, *changes, *more, "resume=true")).epochs == 2


def test_a_dataset_made_anew_of_another_log_is_refused(begun, tmp_path):
    shutil.copytree(begun / "runs", tmp_path / "runs")
    worlds.markov_chain_world(tmp_path / "shop", num_users=60, seed=2)  # of the same vocabulary
    with pytest.raises(
        DatasetError, match=r"tiny was trained with \S+/shop as it was then, and \S+ holds something else"
    ):
        open_job(small_config(tmp_path / "shop", tmp_path, "resume=true"))
