"""Searches settings of training with Optuna: ``python -m training.sweep dataset=beauty space=sasrec``."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from roomrec.errors import ConfigurationError
from training.configuration import (
    INTERRUPTED_EXIT_CODE,
    check_command_line,
    check_overrides,
    one_sentence_errors,
)
from training.opening import check_settings as check_training_settings
from training.run_folder import TrainingInterrupted
from training.settings import check_whole_number, mistakes_in


class SweepResult(NamedTuple):
    """What a sweep came to so far."""

    folder: Path
    """with ``study.db``, and the run of every trial in ``trials/``"""
    trials: list[Any]
    """Optuna's, the best first; those that another one continues are left out"""
    summary: dict[str, Any]
    """counts, and the best trial with what was drawn for it"""


def run(config: DictConfig) -> SweepResult:
    """Search as configured; only the validation split is ever looked at.

    Args:
        config: ``configs/sweep.yaml``, composed, with the settings that trials share in ``sweep.settings``.

    Returns:
        The trials and what is best.

    Raises:
        ConfigurationError: If a setting is wrong, the sweep may not be touched, or too many trials failed.
        DatasetError: If the dataset is missing or has changed.
        TrainingInterrupted: After Ctrl-C, when everything is saved.
    """
    from training.sweeping.folder import begin_or_continue, sweep_folder
    from training.sweeping.processes import work_together
    from training.sweeping.settings import check_settings_of_trials
    from training.sweeping.space import parse_space
    from training.sweeping.study import best_first, open_study
    from training.sweeping.worker import work

    began = time.monotonic()
    check_settings(config)
    parse_space(config.space)
    check_settings_of_trials(config.sweep.settings, config.space)
    check_overrides("train", [*config.sweep.settings, *(f"{key}={text}" for key, text in config.space.items())])
    with mistakes_in("pruner"):
        pruner = hydra.utils.instantiate(config.pruner)
    with mistakes_in("sweep.sampler"):
        hydra.utils.instantiate(config.sweep.sampler)
    folder, monitored = sweep_folder(config), str(config.validation.monitor)
    begin_or_continue(config, folder)
    study = open_study(folder, direction="minimize" if "loss" in monitored else "maximize", pruner=pruner)
    if config.sweep.workers == 1:
        work(config, folder)
    else:
        work_together(folder, num_workers=config.sweep.workers)
    trials = best_first(study)
    states = [trial.state.name.lower() for trial in trials]
    best = trials[0] if states[:1] == ["complete"] else None
    return SweepResult(
        folder=folder,
        trials=trials,
        summary={
            "sweep": folder.name,
            "trials": len(trials),
            **{state: states.count(state) for state in ("complete", "pruned", "fail")},
            "monitored": monitored,
            "best": None if best is None else round(best.value, 6),
            "best_trial": None if best is None else best.number,
            "values": None if best is None else best.params,
            "run": None if best is None else str(folder / "trials" / best.user_attrs["run"]),
            "seconds": round(time.monotonic() - began, 1),
        },
    )


def check_settings(config: DictConfig) -> None:
    """Refuse settings that make no sense.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    check_training_settings(config)
    for key in ("sweep.num_trials", "sweep.workers", "sweep.max_failures"):
        check_whole_number(config, key, at_least=1)
    several = config.trainer.devices != 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several or "num_workers" in config.launcher:
        raise ConfigurationError(
            "a trial trains on one device: leave out torchrun and launcher=ray, and choose a trainer=... with "
            "devices=1; sweep.workers=n trains n trials at once"
        )


@hydra.main(version_base="1.3", config_path="../configs", config_name="sweep")
def main(config: DictConfig) -> None:
    """Search, show the trials, and end with one line of JSON."""
    from training.sweeping.settings import settings_of_trials

    console = Console(stderr=True)
    with one_sentence_errors():
        config.sweep.settings = settings_of_trials(HydraConfig.get().overrides.task)
        try:
            result = run(config)
        except TrainingInterrupted as interruption:
            console.print(f"{interruption}: continue with the same command and resume=true", soft_wrap=True)
            raise SystemExit(INTERRUPTED_EXIT_CODE) from None
        from training.sweeping.results import trial_table

        console.width = max(console.width, 140)
        console.print(trial_table(result.trials, monitored=result.summary["monitored"]))
        sys.stdout.write(json.dumps(result.summary) + "\n")


if __name__ == "__main__":
    from training.sweeping.space import space_from_words

    sys.argv[1:] = space_from_words(sys.argv[1:])
    check_command_line("sweep")
    main()
