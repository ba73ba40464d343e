"""Mistakes on the command line."""

import subprocess
import sys
import time

import pytest
from hydra import compose, initialize_config_dir

from roomrec.errors import ConfigurationError
from training.configuration import (
    CONFIGS,
    check_command_line,
    check_missing,
    check_overrides,
    one_sentence_errors,
)

ROOT = CONFIGS.parent


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        (
            "model=sasrek",
            "model=sasrek: there is no such option; did you mean model=sasrec? (options: bsarec, esasrec, ",
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


def job(name: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"training.{name}", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_what_must_be_set_is_asked_for_with_what_there_is(tmp_path):
    for name in ("runs/one", "runs/.hidden", "processed/beauty", "processed/small", "processed/.new.unfinished"):
        (tmp_path / name).mkdir(parents=True)
    datasets, runs = f"found beauty, small in {tmp_path}/processed", f"found one in {tmp_path}/runs"
    for name, answer in (
        ("train", f"dataset is not set: choose one with dataset=...; {datasets}"),
        ("evaluate", f"run is not set: choose one with run=...; {runs}"),
        ("export", f"run is not set: choose one with run=...; {runs}"),
    ):
        done = job(name, f"data_dir={tmp_path}")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"ConfigurationError: {answer}\n"), name
    done = job("preprocess")
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigurationError: source.path is not set: expected a folder of day=")


def test_where_there_is_nothing_to_choose_the_place_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train")
    with pytest.raises(ConfigurationError, match=rf"found none in data/processed \(in {tmp_path}\)"):
        check_missing(config)


@pytest.mark.parametrize("name", ["simulate", "preprocess", "train", "evaluate", "export", "sweep", "adopt"])
def test_help_shows_choices_settings_and_what_they_mean(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        check_command_line(name)
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"python -m training.{name}" in text.splitlines()[0]
    assert (" sasrec*, two_tower" in text) == (name in ("train", "sweep"))
    assert "source: gowalla" not in text or name == "preprocess"
    if name == "train":
        assert "  resume: false  # continue an interrupted run at the very step" in text.splitlines()
    if name == "sweep":
        assert "  pruner: hyperband, median*, none" in text.splitlines()
        assert "  max_epochs: 200" in text.splitlines()


@pytest.mark.parametrize("words", [["--cfg", "job"], ["-c", "job", "seed=1"], ["--info", "defaults"]])
def test_words_after_a_flag_are_no_settings(words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    check_command_line("train")


@pytest.mark.parametrize(
    ("error", "code", "answer"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), 2, "PermissionError: /a/b: Permission denied\n"),
        (OSError("disk full"), 2, "OSError: disk full\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_the_disk_and_the_user_are_answered_in_a_sentence(error, code, answer, capsys):
    with pytest.raises(SystemExit) as stopped, one_sentence_errors():
        raise error
    assert stopped.value.code == code
    assert capsys.readouterr().err == answer


def test_a_missing_dataset_is_one_sentence_too(tmp_path):
    done = job("train", "dataset=nowhere", f"data_dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("DatasetError: no processed dataset at")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
