"""Searching settings, shrunken: real trials of a few epochs on a small log."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from pytorch_lightning import Callback

from roomrec.errors import ConfigurationError, DatasetError
from tests.runs import config_of
from tests.worlds import hopeless_world
from training import adopt
from training import trainer as trainer_module
from training.configuration import CONFIGS, check_overrides
from training.run_folder import TrainingInterrupted
from training.sweep import run
from training.sweeping import study as study_module
from training.sweeping.space import parse_space, space_from_words
from training.sweeping.study import CONTINUES, best_first, claim_trial, open_study

LR = {"optimizer.lr": "tag(log,interval(1e-7,3e-2))"}


def sweep_config(dataset: Path, data_dir: Path, space: dict[str, str], *words: str, **sweep: object) -> DictConfig:
    settings = [
        f"dataset={dataset}",
        f"data_dir={data_dir}",
        "trainer=cpu",
        "model.embedding_dim=8",
        "batches.batch_size=64",
        "warmup_steps=0",
        "max_epochs=3",
    ]
    others = [f"sweep.{key}={value}" for key, value in sweep.items()]
    given = [word for word in words if word.partition("=")[0] not in ("resume", "overwrite", "name", "pruner")]
    settings += [word for word in given if not word.startswith("pruner.")]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("sweep", overrides=["name=tiny", *settings, *(set(words) - set(settings)), *others])
    config.space = space
    config.sweep.settings = settings
    return config


EAGER = ("pruner.n_startup_trials=1", "pruner.n_warmup_steps=0")


def test_trials_that_fall_behind_stop_early_and_the_best_is_what_training_again_gives(markov_dataset, tmp_path):
    result = run(sweep_config(markov_dataset, tmp_path, LR, *EAGER, num_trials=6))
    assert result.summary["trials"] == 6
    assert result.summary["pruned"] >= 1
    assert result.summary["complete"] + result.summary["pruned"] == 6
    for trial in result.trials:
        assert len(trial.intermediate_values) == 3 or trial.state == TrialState.PRUNED
    pruned = [trial for trial in result.trials if trial.state == TrialState.PRUNED]
    assert min(len(trial.intermediate_values) for trial in pruned) < 3
    complete = [trial.value for trial in result.trials if trial.state == TrialState.COMPLETE]
    assert complete == sorted(complete, reverse=True)
    assert result.summary["best"] == round(complete[0], 6)
    best = Path(result.summary["run"])
    assert best.parent == tmp_path / "sweeps" / "tiny" / "trials"
    assert (best / "checkpoints" / "best.ckpt").exists()
    assert not (tmp_path / "runs").exists()

    adopt.run(
        config_of("adopt", sweep="tiny", name="tuned", data_dir=tmp_path, experiments_dir=tmp_path / "experiment")
    )
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = ["experiment=tuned", f"hydra.searchpath=[file://{tmp_path}]", f"data_dir={tmp_path}", "trainer=cpu"]
        tuned = compose("train", overrides=words)
    assert tuned.optimizer.lr == result.trials[0].params["optimizer.lr"]
    from training.train import run as train

    assert train(tuned).best == result.trials[0].value


class _CtrlC(Callback):
    """Presses Ctrl-C in the second epoch of the first trial."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 6 and "tiny-000" in str(trainer.logger.save_dir):
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_sweep_comes_to_what_an_uninterrupted_one_does(markov_dataset, tmp_path, monkeypatch):
    whole = run(sweep_config(markov_dataset, tmp_path / "whole", LR, *EAGER, num_trials=4))

    build = trainer_module.build_trainer

    def build_and_press(*args, **kwargs):
        trainer = build(*args, **kwargs)
        trainer.callbacks.insert(0, _CtrlC())
        return trainer

    halves = tmp_path / "halves"
    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "build_trainer", build_and_press)
        with pytest.raises(TrainingInterrupted):
            run(sweep_config(markov_dataset, halves, LR, *EAGER, num_trials=4))
    resumed = run(sweep_config(markov_dataset, halves, LR, *EAGER, "resume=true", num_trials=4))

    def seen(result):
        return [(trial.params, trial.state, trial.value, trial.intermediate_values) for trial in result.trials]

    assert seen(resumed) == seen(whole)
    assert resumed.summary["trials"] == 4
    rows = list(csv.DictReader((halves / "sweeps/tiny/trials/tiny-000/metrics.csv").read_text().splitlines()))
    epochs = [row["epoch"] for row in rows if row["val_ndcg@10"]]
    assert epochs == ["0", "1", "2"]  # none twice, although training stopped in the middle

    more = run(sweep_config(markov_dataset, halves, LR, *EAGER, "resume=true", num_trials=5))
    assert more.summary["trials"] == 5


def test_what_cannot_be_trained_fails_alone_and_too_much_of_it_stops_the_sweep(markov_dataset, tmp_path):
    space = {"model.embedding_dim": "choice(7,8)"}
    config = sweep_config(markov_dataset, tmp_path, space, "max_epochs=1", num_trials=5)
    config.sweep.settings = [word for word in config.sweep.settings if not word.startswith("model.embedding_dim")]
    result = run(config)
    failed = [trial for trial in result.trials if trial.state == TrialState.FAIL]
    assert failed
    assert "embedding_dim 7 must be a multiple of num_heads 2" in failed[0].user_attrs["reason"]
    assert result.summary["values"] == {"model.embedding_dim": "8"}

    config.sweep.max_failures = 1
    config.overwrite = True
    with pytest.raises(ConfigurationError, match="1 trials have failed, the last because of 'model: embedding_dim 7"):
        run(config)


def test_groups_are_searched_too_and_what_was_trained_is_not_trained_again(markov_dataset, tmp_path):
    space = {"negatives": "uniform,popularity"}
    result = run(sweep_config(markov_dataset, tmp_path, space, "max_epochs=1", "pruner=none", num_trials=4))
    assert {trial.params["negatives"] for trial in result.trials} == {"uniform", "popularity"}
    assert result.summary["complete"] == 4
    assert len(list((tmp_path / "sweeps/tiny/trials").iterdir())) == 2


def test_a_trial_whose_process_was_killed_is_continued_by_the_next(tmp_path):
    space = parse_space(LR)
    study = open_study(tmp_path, direction="maximize")
    import optuna

    def claim(num_trials=2):
        return claim_trial(
            study,
            tmp_path,
            space,
            num_trials=num_trials,
            make_sampler=lambda seed: optuna.samplers.TPESampler(seed=seed),
        )

    killed, alive = claim(), claim()
    killed.trial.report(0.25, 0)
    assert killed.trial.params != alive.trial.params
    assert claim() is None  # both are at work
    killed.lock.release()  # as the system does when a process ends
    continued = claim()
    assert continued.trial.params == killed.trial.params
    assert continued.run_name == killed.run_name == f"{tmp_path.name}-000"
    assert continued.trial.user_attrs[CONTINUES] == 0
    study.tell(continued.trial, 0.5)
    study.tell(alive.trial, 0.75)
    assert claim() is None
    assert [(trial.number, trial.value) for trial in best_first(study)] == [(1, 0.75), (2, 0.5)]
    assert best_first(study)[1].intermediate_values == {0: 0.25}


def test_a_trial_that_ends_while_abandoned_ones_are_looked_for_stays_complete(tmp_path, monkeypatch):
    sweep_study = open_study(tmp_path, direction="maximize")

    def claim():
        return claim_trial(
            sweep_study,
            tmp_path,
            {"lr": FloatDistribution(0.0, 1.0)},
            num_trials=9,
            make_sampler=lambda number: RandomSampler(seed=number),
        )

    first = claim()
    first.lock.release()
    lock_of = study_module._lock_of

    def lock_after_the_end(folder, number):
        if number == first.trial.number:
            sweep_study.tell(number, 0.5, skip_if_finished=True)
        return lock_of(folder, number)

    monkeypatch.setattr(study_module, "_lock_of", lock_after_the_end)
    second = claim()
    assert second.trial.number == 1
    states = [trial.state for trial in sweep_study.get_trials(deepcopy=False)]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_sweep_is_not_lost_or_mixed_up_by_accident(markov_dataset, tmp_path):
    config = sweep_config(markov_dataset, tmp_path, LR, "max_epochs=1", num_trials=1)
    with pytest.raises(ConfigurationError, match="resume=true, but there is no sweep"):
        run(sweep_config(markov_dataset, tmp_path, LR, "max_epochs=1", "resume=true", num_trials=1))
    run(config)
    with pytest.raises(ConfigurationError, match="tiny exists: go on"):
        run(config)
    with pytest.raises(ConfigurationError, match=r"was begun with space .*received"):
        run(
            sweep_config(
                markov_dataset, tmp_path, {"model.dropout_rate": "interval(0,0.5)"}, "max_epochs=1", "resume=true"
            )
        )
    with pytest.raises(ConfigurationError, match="was begun with settings"):
        run(sweep_config(markov_dataset, tmp_path, LR, "max_epochs=2", "resume=true", num_trials=1))
    changed = sweep_config(markov_dataset, tmp_path, LR, "max_epochs=1", "resume=true", num_trials=2)
    changed.dataset = str(hopeless_world(tmp_path / "other"))
    with pytest.raises(DatasetError, match="the dataset has changed since"):
        run(changed)


@pytest.mark.parametrize(
    ("space", "words", "answer"),
    [
        ({}, (), "nothing is searched"),
        ({"optimizer.lr": "0.1"}, (), r"space.optimizer.lr is '0.1': expected one of choice"),
        ({"optimizer.lr": "interval(2,1)"}, (), r"space.optimizer.lr is 'interval\(2,1\)'"),
        ({"model.dropout": "interval(0,1)"}, (), "no setting 'model.dropout'; did you mean model.dropout_rate"),
        ({"batches.batch_size": "choice(32,64)"}, (), "batches.batch_size is given a value and searched"),
        (LR, ("trainer=ddp",), "a trial trains on one device"),
        (LR, ("launcher=ray",), "leave out torchrun and launcher=ray"),
        (LR, ("sweep.num_trials=0",), "sweep.num_trials is 0: expected a whole number of at least 1"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(markov_dataset, tmp_path, space, words, answer):
    sweep = dict(word.removeprefix("sweep.").split("=") for word in words if word.startswith("sweep."))
    config = sweep_config(markov_dataset, tmp_path, space, *(w for w in words if not w.startswith("sweep.")), **sweep)
    with pytest.raises(ConfigurationError, match=answer):
        run(config)
    assert list(tmp_path.iterdir()) == []


def test_every_form_of_a_sweep_becomes_a_distribution():
    assert parse_space(
        {
            "a": "choice(1,two,[3,4])",
            "b": "x,y",
            "c": "interval(0.1,0.6)",
            "d": "int(interval(1,8))",
            "e": "tag(log,interval(1e-4,1e-2))",
            "f": "range(1,8,step=2)",
            "g": "range(0.1,0.5,step=0.1)",
        }
    ) == {
        "a": CategoricalDistribution(("1", "two", "[3,4]")),
        "b": CategoricalDistribution(("x", "y")),
        "c": FloatDistribution(0.1, 0.6),
        "d": IntDistribution(1, 8),
        "e": FloatDistribution(1e-4, 1e-2, log=True),
        "f": IntDistribution(1, 7, step=2),
        "g": FloatDistribution(0.1, 0.4, step=0.1),
    }


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "space").glob("*.yaml")))
def test_every_space_searches_settings_that_its_model_has(name):
    space = config_of("sweep", space=name).space
    parse_space(space)
    check_overrides("train", [f"model={name}", *(f"{key}={text}" for key, text in space.items())])


def test_sweeps_on_the_command_line_compose_into_the_space():
    words = space_from_words(["space=sasrec", "model.num_blocks=1,2", "loss=bce,softmax"])
    check_overrides("sweep", words)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        space = compose("sweep", overrides=words).space
    assert space["model.num_blocks"] == "1,2"
    assert space["loss"] == "bce,softmax"
    assert space["model.dropout_rate"] == "interval(0.1,0.6)"


def test_an_experiment_is_adopted_with_everything_it_was_searched_upon(markov_dataset, tmp_path):
    space = {"negatives": "choice(uniform)", "optimizer.weight_decay": "choice(0.01)"}
    words = ("experiment=ml1m_sasrec", "max_epochs=1", "model=two_tower")
    run(sweep_config(markov_dataset, tmp_path, space, *words, num_trials=1))
    options = {"sweep": "tiny", "data_dir": tmp_path, "experiments_dir": tmp_path / "experiment"}
    summary = adopt.run(config_of("adopt", name="tuned", **options))
    text = Path(summary["file"]).read_text()
    header, *_ = text.split("\n\n")
    for line in (
        "# @package _global_",
        "# Why: trial 0, the best of 1",
        "# Command: python -m training.train experiment=tuned",
    ):
        assert line in header
    assert "# Expected: best val_ndcg@10 0." in header
    assert "  - override /model: two_tower\n  - override /negatives: uniform\n" in text
    assert "max_sequence_length: 200" in text  # of the experiment it was searched upon
    assert "trainer" not in text
    assert str(tmp_path / "sweeps") not in text

    with pytest.raises(ConfigurationError, match=r"tuned\.yaml exists: choose another name"):
        adopt.run(config_of("adopt", name="tuned", **options))
    with pytest.raises(ConfigurationError, match="holds no trial 7 that is complete: 1 of 1 are"):
        adopt.run(config_of("adopt", name="other", trial=7, **options))
    with pytest.raises(ConfigurationError, match="there is no such sweep; found tiny in"):
        adopt.run(config_of("adopt", name="other", **options | {"sweep": "tinny"}))
    with pytest.raises(ConfigurationError, match="name is 'a/b': expected letters"):
        adopt.run(config_of("adopt", name="a/b", **options))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_several_processes_share_one_sweep_and_stop_together(markov_dataset, tmp_path):
    words = [
        f"dataset={markov_dataset}", f"data_dir={tmp_path}", "name=tiny", "trainer=cpu", "model.embedding_dim=8",
        "max_epochs=30", "patience=30", "optimizer.lr=tag(log,interval(1e-4,1e-2))",
        "sweep.workers=2", "sweep.num_trials=4", "pruner=none",
    ]  # fmt: skip
    command = [sys.executable, "-m", "training.sweep", *words]
    sweep = subprocess.Popen(command, cwd=CONFIGS.parent, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "sweeps/tiny"
    try:
        for _ in range(900):
            if len(list(folder.glob("trials/*/checkpoints/last.ckpt"))) == 2 or sweep.poll() is not None:
                break
            subprocess.run(["sleep", "0.2"], check=True)
        sweep.send_signal(signal.SIGINT)
        _, stderr = sweep.communicate(timeout=600)
    finally:
        sweep.kill()
    assert sweep.returncode == 130, stderr
    assert "every trial at work is saved: continue with the same command and resume=true" in stderr
    assert open_study(folder).get_trials(states=(TrialState.RUNNING,)) == []

    done = subprocess.run([*command, "resume=true"], cwd=CONFIGS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["trials"], summary["complete"]) == (4, 4)
