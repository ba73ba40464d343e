"""The study of a sweep: an SQLite file that several processes share, and which trial comes next.

A trial is worked on as long as the process that works on it holds its lock, which the system takes away when the
process ends. So what was killed is found out without waiting and without a clock.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

CONTINUES: Final = "continues"
"""Attribute of a trial that goes on with an interrupted one: that one's number."""

RUN: Final = "run"
"""Attribute: name of the trial's run, below ``trials/``."""

REASON: Final = "reason"
"""Attribute: why a trial failed."""


class Claim(NamedTuple):
    """A trial that belongs to this process until the lock is released."""

    trial: Trial
    """to train"""
    lock: FileLock
    """held"""
    run_name: str
    """of its run; that of the trial it continues, if it does"""


def open_study(folder: Path, *, direction: str | None = None, pruner: optuna.pruners.BasePruner | None = None) -> Any:
    """Open the study of a sweep's folder, or begin it.

    Args:
        folder: The sweep's.
        direction: ``maximize`` or ``minimize``; needed to begin one.
        pruner: Decides which trials stop early.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = f"sqlite:///{folder / 'study.db'}"
    with FileLock(folder / "study.lock"):
        if direction is None:
            return optuna.load_study(study_name=folder.name, storage=storage, pruner=pruner)
        return optuna.create_study(
            study_name=folder.name, storage=storage, direction=direction, pruner=pruner, load_if_exists=True
        )


def claim_trial(
    study: optuna.Study,
    folder: Path,
    space: dict[str, BaseDistribution],
    *,
    num_trials: int,
    make_sampler: Callable[[int], optuna.samplers.BaseSampler],
) -> Claim | None:
    """Take the next trial: an interrupted one if there is one, else one whose values are drawn now.

    Args:
        study: Of the sweep.
        folder: Of the sweep.
        space: What is searched.
        num_trials: The most trials there may be, those of other processes included.
        make_sampler: Makes the sampler for a trial from the number of those before it, so that a sweep that was
            interrupted draws what an uninterrupted one would have, and processes at work together never draw the same.

    Returns:
        The trial, or None if there are enough.
    """
    with FileLock(folder / "study.lock"):
        _queue_abandoned_trials(study, folder)
        trials = study.get_trials(deepcopy=False)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        if not waiting and len(counted_trials(trials)) >= num_trials:
            return None
        study.sampler = make_sampler(len(counted_trials(trials)))
        trial = study.ask(space)
        run_name = trial.user_attrs.get(RUN) or f"{folder.name}-{trial.number:03d}"
        trial.set_user_attr(RUN, run_name)
        lock = _lock_of(folder, trial.number)
        lock.acquire(timeout=0)
    if (before := trial.user_attrs.get(CONTINUES)) is not None:
        for epoch, value in study.get_trials(deepcopy=False)[before].intermediate_values.items():
            trial.report(value, epoch)
    return Claim(trial, lock, run_name)


def queue_again(study: optuna.Study, trial: FrozenTrial | Trial) -> None:
    """Let the next process that asks go on with an interrupted trial where its run stands."""
    attributes = {CONTINUES: trial.number, RUN: trial.user_attrs.get(RUN, f"{study.study_name}-{trial.number:03d}")}
    study.tell(trial.number, state=TrialState.FAIL)
    study.enqueue_trial(trial.params, user_attrs=attributes)


def counted_trials(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials without those that wait, and without those that another one continues."""
    continued = {trial.user_attrs.get(CONTINUES) for trial in trials}
    return [trial for trial in trials if trial.state != TrialState.WAITING and trial.number not in continued]


def best_first(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that count: complete ones from the best, then pruned, failed and unfinished ones."""
    ascending = study.direction == optuna.study.StudyDirection.MINIMIZE
    rest = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]

    def place(trial: FrozenTrial) -> tuple[int, float, int]:
        value = trial.value if trial.value is not None and trial.state == TrialState.COMPLETE else 0.0
        return rest.index(trial.state), value if ascending else -value, trial.number

    return sorted(counted_trials(study.get_trials(deepcopy=False)), key=place)


def _queue_abandoned_trials(study: optuna.Study, folder: Path) -> None:
    """Queue trials that were being worked on by a process that is no more."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lock = _lock_of(folder, trial.number)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        # whoever held the lock may have finished since the trials were listed
        if study.get_trials(deepcopy=False)[trial.number].state == TrialState.RUNNING:
            queue_again(study, trial)
        lock.release()


def _lock_of(folder: Path, number: int) -> FileLock:
    (folder / "locks").mkdir(exist_ok=True)
    return FileLock(folder / "locks" / f"{number:05d}")
