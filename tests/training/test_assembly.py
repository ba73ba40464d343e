"""Models, losses, batches and negatives that do not go together are refused while nothing is lost yet."""

from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from roomrec.batches.batch import CandidateBatch, ChosenItems
from roomrec.errors import ConfigurationError, DatasetError
from tests.training.test_train import small_config
from training.configuration import CONFIGS
from training.train import run

WHOLE_USERS = "batches._target_=roomrec.batches.user_batches.UserBatches"


def refuse(dataset: Path, data_dir: Path, *choice: str) -> str:
    """Return the sentence, when an earlier run of the name has survived it."""
    kept = data_dir / "runs" / "tiny" / "kept"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises((ConfigurationError, DatasetError)) as error:
        run(small_config(dataset, data_dir, "overwrite=true", *choice))
    assert [path.name for path in data_dir.rglob("*")] == ["runs", "tiny", "kept"]
    return str(error.value)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (
            ["loss=user_softmax"],
            "loss._target_ is UserSoftmax, which cannot read the batches of this model: SequenceBatches have one "
            "target an example: choose loss=softmax, or model=two_tower_graph, which learns of whole users",
        ),
        (
            ["model=two_tower", "loss=cosine_contrastive"],
            "loss._target_ is CosineContrastive, which cannot read the batches of this model: TargetBatches have one "
            "target an example: choose loss=softmax, or model=two_tower_graph, which learns of whole users",
        ),
        *(
            (
                ["model=two_tower_graph", f"loss={loss}"],
                f"loss._target_ is {name}, which cannot read the batches of this model: UserBatches have all targets "
                "of a user at once: choose loss=user_softmax or loss=cosine_contrastive",
            )
            for loss, name in (
                ("softmax", "Softmax"),
                ("bce", "BinaryCrossEntropy"),
                ("gbce", "GeneralizedBinaryCrossEntropy"),
                ("hardest_softmax", "HardestSoftmax"),
            )
        ),
        (
            [WHOLE_USERS, "loss=user_softmax"],
            "batches._target_ is UserBatches, which a SASRec cannot read: leave it as model=... sets it",
        ),
        (
            ["model=two_tower_graph", "loss=cosine_contrastive"],
            "model.temperature is 0.1, but loss=cosine_contrastive takes cosines as they are: pass model.temperature=1",
        ),
        (
            ["model=two_tower_graph", "model.temperature=0.012"],
            "model.temperature is 0.012, and exponentials of cosines over it are too large for loss=user_softmax: pass "
            "at least 0.0125",
        ),
        (
            ["model=two_tower_graph", "negatives=in_batch"],
            "batches of whole users compare everybody with the same items, and these negatives depend on the positive: "
            "choose negatives=uniform or negatives=popularity, or a model with one target an example (model=two_tower "
            "or model=sasrec, with batches of their own)",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_deleted(markov_dataset, tmp_path, choice, sentence):
    assert refuse(markov_dataset, tmp_path, *choice) == sentence


def test_whole_users_of_a_live_log_are_refused(live_dataset, tmp_path):
    choice = ("model=two_tower", WHOLE_USERS, "loss=user_softmax", "negatives=uniform")
    assert refuse(live_dataset, tmp_path, *choice) == (
        "batches of whole users compare everybody with the same items, whenever and wherever, but the log knows what "
        "was available when: choose model=two_tower or model=sasrec, with batches of their own"
    )


def test_every_loss_says_what_it_reads():
    read = {path.stem: get_class(OmegaConf.load(path)._target_).candidates_type for path in CONFIGS.glob("loss/*.yaml")}
    assert {name for name, kind in read.items() if kind is ChosenItems} == {"user_softmax", "cosine_contrastive"}
    assert {kind for kind in read.values() if kind is not ChosenItems} == {CandidateBatch}
