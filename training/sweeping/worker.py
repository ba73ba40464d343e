"""One process of a sweep: takes a trial, trains it, tells how good it became, until there are enough.

``python -m training.sweeping.worker <folder>`` is what a sweep of several processes starts.
"""

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import cast

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from roomrec.errors import ConfigurationError, RoomRecError
from training.configuration import INTERRUPTED_EXIT_CODE, one_sentence_errors
from training.run_folder import LAST_CHECKPOINT, TrainingInterrupted
from training.sweeping.results import trial_line
from training.sweeping.settings import config_of_trial
from training.sweeping.space import parse_space
from training.sweeping.study import REASON, Claim, claim_trial, open_study, queue_again


def work(config: DictConfig, folder: Path) -> None:
    """Train trials until the sweep has as many as it shall have.

    Args:
        config: ``configs/sweep.yaml``, composed, its ``sweep.settings`` filled.
        folder: The sweep's, with a study in it.

    Raises:
        ConfigurationError: If too many trials have failed.
        TrainingInterrupted: After Ctrl-C, when the trial's run is saved and the trial waits to be continued.
    """
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    study = open_study(folder, pruner=instantiate(config.pruner))
    space = parse_space(config.space)
    while claim := claim_trial(
        study,
        folder,
        space,
        num_trials=config.sweep.num_trials,
        make_sampler=lambda number: instantiate(config.sweep.sampler, seed=config.seed * 100_003 + number),
    ):
        try:
            console.print(f"trial {claim.trial.number}: {trial_line(claim.trial.params)}")
            _train(study, claim, config, folder)
        finally:
            claim.lock.release()
        told = study.get_trials(deepcopy=False)[claim.trial.number]
        value = "" if told.value is None or told.state == TrialState.PRUNED else f", {config.validation.monitor}"
        console.print(
            f"trial {told.number}: {told.state.name.lower()}{f'{value} {told.value:.4f}' if value else ''}"
            f"{f', {told.user_attrs[REASON]}' if REASON in told.user_attrs else ''}"
        )
        _stop_at_failures(study, int(config.sweep.max_failures))


def _train(study: optuna.Study, claim: Claim, config: DictConfig, folder: Path) -> None:
    """Train one trial, and write down what became of it."""
    import torch

    from training import train
    from training.callbacks.trial_report import TrialReport

    trial = claim.trial
    if same := _same_before(study, trial):
        trial.set_user_attr("same_as", same.number)
        study.tell(trial, values=same.values if same.state == TrialState.COMPLETE else None, state=same.state)
        return
    try:
        settings = config_of_trial(config.sweep.settings, trial.params, runs_dir=folder / "trials", name=claim.run_name)
        settings.resume = (folder / "trials" / claim.run_name / LAST_CHECKPOINT).exists()
        settings.overwrite = not settings.resume
        report = TrialReport(trial=trial, monitored=str(settings.validation.monitor))
        result = train.run(settings, callbacks=[report])
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except (TrainingInterrupted, KeyboardInterrupt):
        queue_again(study, trial)
        raise
    except (RoomRecError, torch.OutOfMemoryError) as error:
        trial.set_user_attr(REASON, str(error).splitlines()[0])
        study.tell(trial, state=TrialState.FAIL)
    else:
        trial.set_user_attr("epochs", result.epochs)
        if math.isfinite(result.best):
            study.tell(trial, result.best)
        else:
            trial.set_user_attr(REASON, f"{result.monitored} is {result.best}")
            study.tell(trial, state=TrialState.FAIL)


def _same_before(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial | None:
    """Return a trial with the same values that came to its end: it would come to the same again."""
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return next((other for other in ended if other.params == trial.params), None)


def _stop_at_failures(study: optuna.Study, max_failures: int) -> None:
    failed = [
        trial for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)) if REASON in trial.user_attrs
    ]
    if len(failed) >= max_failures:
        raise ConfigurationError(
            f"{len(failed)} trials have failed, the last because of {failed[-1].user_attrs[REASON]!r}: narrow the "
            "space, or raise sweep.max_failures"
        )


def main(folder: Path) -> None:
    """Work as the sweep's ``config.yaml`` says; if the process that started this one is killed, save and stop."""
    threading.Thread(target=_stop_without, args=(os.getppid(),), daemon=True).start()
    with one_sentence_errors():
        try:
            work(cast(DictConfig, OmegaConf.load(folder / "config.yaml")), folder)
        except TrainingInterrupted:
            raise SystemExit(INTERRUPTED_EXIT_CODE) from None


def _stop_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
