"""A trial's config: what was typed for all trials, and what was drawn for this one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from roomrec.errors import ConfigurationError
from training.configuration import compose_config
from training.sweeping.space import as_override

OF_THE_SWEEP: Final = ("sweep", "space", "pruner", "name", "runs_dir", "resume", "overwrite", "hydra")
"""Sections that are not passed on to trials."""


def settings_of_trials(words: Sequence[str]) -> list[str]:
    """Return those words of a command line that trials share.

    Raises:
        ConfigurationError: If one takes a setting away, which an experiment file could not say.

    Example:
        >>> settings_of_trials(["dataset=beauty", "space=sasrec", "sweep.num_trials=9", "model.num_heads=1"])
        ['dataset=beauty', 'model.num_heads=1']
    """
    kept = []
    for override in OverridesParser.create().parse_overrides(list(words)):
        if override.key_or_group.partition(".")[0] in OF_THE_SWEEP:
            continue
        if override.is_delete():
            raise ConfigurationError(f"{override.input_line}: a sweep cannot take settings away, only give them values")
        kept.append(str(override.input_line))
    return kept


def check_settings_of_trials(settings: Sequence[str], space: Mapping[str, Any]) -> None:
    """Refuse a setting that is both given and searched.

    Raises:
        ConfigurationError: With its name.
    """
    for override in OverridesParser.create().parse_overrides(list(settings)):
        if override.key_or_group in space:
            raise ConfigurationError(f"{override.key_or_group} is given a value and searched: leave one of the two out")


def config_of_trial(
    settings: Sequence[str], values: Mapping[str, Any], *, runs_dir: Path | None = None, name: str | None = None
) -> DictConfig:
    """Compose ``configs/train.yaml`` for one trial.

    Args:
        settings: What trials share, as typed.
        values: What was drawn, by setting.
        runs_dir: Where the trial's run lies.
        name: Of its run.

    Raises:
        ConfigurationError: If the settings do not fit one another.
    """
    words = [*settings, *(as_override(key, value) for key, value in values.items())]
    config = compose_config("train", words)
    if runs_dir is not None:
        config.runs_dir, config.name = str(runs_dir), name
    config.resume = config.overwrite = False
    return config
