"""Makes the best trial of a sweep an experiment: ``python -m training.adopt sweep=sasrec-beauty name=beauty_tuned``."""

import datetime
import json
import re
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from roomrec.errors import ConfigurationError
from training.configuration import CONFIGS, check_command_line, check_missing, one_sentence_errors
from training.settings import check_whole_number


def run(config: DictConfig) -> dict[str, Any]:
    """Write a trial of a sweep as ``configs/experiment/<name>.yaml``.

    Args:
        config: ``configs/adopt.yaml``, composed.

    Returns:
        The file, the trial, and what it reached.

    Raises:
        ConfigurationError: If there is no such sweep or trial, it is not complete, or the file exists.
    """
    check_missing(config)
    check_whole_number(config, "trial", at_least=0, optional=True)
    if not re.fullmatch(r"[A-Za-z0-9]\w*", str(config.name)):
        raise ConfigurationError(f"name is {config.name!r}: expected letters, digits and _, as experiments are named")
    file = Path(config.experiments_dir or CONFIGS / "experiment") / f"{config.name}.yaml"
    if file.exists() and not config.overwrite:
        raise ConfigurationError(f"{file} exists: choose another name=..., or pass overwrite=true")
    from optuna.trial import TrialState

    from training.sweeping.experiment_file import write_experiment
    from training.sweeping.folder import require_sweep
    from training.sweeping.study import best_first, open_study

    folder = require_sweep(config)
    trials = best_first(open_study(folder))
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    chosen = complete if config.trial is None else [trial for trial in complete if trial.number == config.trial]
    if not chosen:
        which = "no trial" if config.trial is None else f"no trial {config.trial}"
        raise ConfigurationError(f"{folder} holds {which} that is complete: {len(complete)} of {len(trials)} are")
    trial = chosen[0]
    sweep = OmegaConf.load(folder / "config.yaml")
    began = json.loads((folder / "sweep.json").read_text())
    searched = ", ".join(f"{key} {text}" for key, text in sweep.space.items())
    rank = "the best" if trial.number == complete[0].number else "one"
    write_experiment(
        file,
        list(sweep.sweep.settings),
        trial.params,
        header=[
            f"Why: trial {trial.number}, {rank} of {len(trials)} of sweep {folder.name} by validation alone; searched:",
            f"  {searched}",
            f"Date: {datetime.datetime.now(tz=datetime.UTC).date()}",
            f"Command: python -m training.train experiment={config.name}",
            f"Expected: best {sweep.validation.monitor} {trial.value:.4f}, {trial.user_attrs['epochs']} epochs, as the "
            f"trial reached at code revision {began['code_revision'] or 'unknown'};",
            "  the test split was not looked at",
        ],
    )
    return {"experiment": config.name, "file": str(file), "trial": trial.number, "expected": trial.value}


@hydra.main(version_base="1.3", config_path="../configs", config_name="adopt")
def main(config: DictConfig) -> None:
    """Write the file and end with one line of JSON."""
    with one_sentence_errors():
        summary = run(config)
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    check_command_line("adopt")
    main()
