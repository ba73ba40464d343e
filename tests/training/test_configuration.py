"""Mistakes on the command line."""

import subprocess
import sys
import time

import pytest

from roomrec.errors import ConfigurationError
from training.configuration import CONFIGS, check_overrides

ROOT = CONFIGS.parent


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        (
            "model=sasrek",
            "model=sasrek: there is no such option; did you mean model=sasrec? (options: sasrec, two_tower)",
        ),
        ("trainer=gpx", "trainer=gpx: there is no such option; did you mean trainer=gpu?"),
        ("model.num_blokcs=3", "there is no setting 'model.num_blokcs'; did you mean model.num_blocks?"),
        ("modle=sasrec", "there is no setting 'modle'; did you mean model?"),
        ("num_blocks=3", "there is no setting 'num_blocks'; did you mean model.num_blocks?"),
        ("trainer.lr=3", "there is no setting 'trainer.lr'; did you mean optimizer.lr?"),
        ("seeed=3", "there is no setting 'seeed'; did you mean seed?"),
        ("~sead", "there is no setting 'sead'; did you mean seed?"),
        ("max_epochs=many", "max_epochs must be a number like 200, received 'many'"),
        ("resume=maybe", "resume must be true or false, received 'maybe'"),
        ("model.num_blocks=[1", "'model.num_blocks=[1' cannot be read as key=value"),
        ("nothing_like_it_anywhere=1", "there is no setting 'nothing_like_it_anywhere'"),
    ],
)
def test_a_mistake_names_the_key_and_the_closest_valid_one(override, answer):
    with pytest.raises(ConfigurationError) as caught:
        check_overrides("train", [override])
    assert answer in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model=two_tower", "negatives=uniform", "trainer=cpu", "dataset=beauty"],
        ["model=two_tower", "model.temperature=0.2"],
        ["seed=1,2,3"],
        ["+anything=new"],
        ["optimizer.lr=2", "max_epochs=3", "validation.ks=[5]"],
        ["hydra.run.dir=elsewhere"],
        ["dataset=/a/folder"],
        ["name=null"],
    ],
)
def test_what_is_right_passes(overrides):
    check_overrides("train", overrides)


def test_a_key_of_another_choice_is_a_mistake():
    with pytest.raises(ConfigurationError, match=r"no setting 'model.temperature'"):
        check_overrides("train", ["model=sasrec", "model.temperature=0.2"])


def test_the_job_answers_in_a_second_with_one_sentence():
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "training.train", "model.num_blokcs=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    answer = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    assert answer == ["ConfigurationError: there is no setting 'model.num_blokcs'; did you mean model.num_blocks?"]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "pytorch_lightning"} & imported  # they alone take several seconds
    assert time.monotonic() - began < 20  # the machine that tests may be busy


def test_a_missing_dataset_is_one_sentence_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "training.train", "dataset=nowhere", f"data_dir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("DatasetError: no processed dataset at")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
