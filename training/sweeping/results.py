"""What a sweep came to, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.table import Table

from training.sweeping.study import REASON, RUN


def trial_line(params: Mapping[str, Any]) -> str:
    """Return what was drawn for a trial, e.g. ``model.num_blocks 2, optimizer.lr 0.00131``."""
    return ", ".join(f"{key} {_short(value)}" for key, value in params.items())


def trial_table(trials: Sequence[FrozenTrial], *, monitored: str, num_rows: int = 20) -> Table:
    """Return a table of the first trials.

    Args:
        trials: Best first.
        monitored: Name of what chose between them.
        num_rows: The most to show.
    """
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    table = Table(title=f"{min(len(trials), num_rows)} of {len(trials)} trials, best first")
    for name in ("trial", "state", monitored, "epochs", *keys, "run"):
        table.add_column(name, justify="left" if name in ("state", "run") else "right")
    for trial in trials[:num_rows]:
        epochs = trial.user_attrs.get("epochs", len(trial.intermediate_values))
        value = f"{trial.value:.4f}" if trial.state == TrialState.COMPLETE else trial.user_attrs.get(REASON, "")
        table.add_row(
            str(trial.number),
            trial.state.name.lower(),
            value,
            str(epochs),
            *(_short(trial.params.get(key, "")) for key in keys),
            str(trial.user_attrs.get(RUN, "")),
        )
    return table


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
