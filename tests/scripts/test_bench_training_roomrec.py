"""RoomRec's side of the comparison: its settings exist, and the common scorer measures what validation measures."""

import numpy as np
import pytest
from hydra.utils import instantiate

from roomrec.sequences.dataset import ProcessedDataset
from scripts.bench_training import logs
from scripts.bench_training.contenders import CONTENDERS, DATA
from scripts.bench_training.on_roomrec import Contender
from scripts.bench_training.scoring import quality, ranks_of_targets
from tests.runs import SMALL_SASREC, config_of
from training import preprocess
from training.callbacks.full_ranking import FullRankingValidation


class Evaluated:
    """Stands for the module in training."""

    def __init__(self, model) -> None:
        self.evaluated = model


@pytest.mark.parametrize("name", [name for name, contender in CONTENDERS.items() if contender.is_ours])
@pytest.mark.parametrize("loss", ["softmax", "sampled"])
def test_settings_are_those_of_the_configs(name, loss):
    settings = dict(part.split("=") for part in CONTENDERS[name].overrides(DATA["ml1m"], loss, "speed"))
    config = config_of("train", dataset="x", **settings)
    assert config.batches.max_sequence_length == 200
    assert config.negatives.num_negatives == (256 if loss == "sampled" else 1_000_000_000)


def test_the_common_scorer_measures_what_validation_measures(tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{user} {' '.join(map(str, 100 + rng.permutation(40)[:12]))}" for user in range(1, 31)]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    source = {"source": "s3rec_text", "source.path": tmp_path / "log.txt"}
    preprocess.run(config_of("preprocess", output_dir=tmp_path, name="log", **source))
    dataset = ProcessedDataset.open(tmp_path / "log")
    model = instantiate(config_of("train", dataset="x", **SMALL_SASREC).model, _partial_=True)(spec=dataset.spec)
    validation = FullRankingValidation(dataset=dataset, max_sequence_length=12, max_queries=None, ks=[10])

    log = logs.read_text(tmp_path / "log.txt")
    everybody = np.arange(30)
    contender = Contender({"dataset": str(tmp_path / "log"), "length": 12}, log)
    vectors = contender.vectors(Evaluated(model), everybody, "validation")
    found = quality(ranks_of_targets(vectors, log, everybody, part="validation"))

    expected = validation.measure(model)
    assert 0 < found["ndcg@10"] < 1
    assert found == {name: pytest.approx(expected[name]) for name in ("ndcg@10", "hr@10")}
