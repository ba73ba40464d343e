"""Names for the runs of a Hydra multirun (``-m``), so that no run lands in the folder of another."""

import sys
from collections import Counter
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from roomrec.errors import ConfigurationError
from training.configuration import check_missing
from training.run_folder import run_folder


def name_in_multirun(config: DictConfig) -> str | None:
    """Return the name of a run: in a multirun that of a single run, followed by what differs between the runs.

    Args:
        config: ``configs/train.yaml``, composed for this run.

    Raises:
        ConfigurationError: If a setting is missing, or what differs fits no name.
    """
    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return None if config.name is None else str(config.name)
    check_missing(config)
    typed = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    return f"{run_folder(config).name}{_difference(typed, HydraConfig.get().overrides.task)}"


def _difference(typed: Sequence[str], concrete: Sequence[str]) -> str:
    """What a run has of the settings that are swept.

    Example:
        >>> _difference(["seed=1,2", "model.dropout_rate=choice(0.2,0.5)", "dataset=beauty"],
        ...             ["seed=2", "model.dropout_rate=0.5", "dataset=beauty"])
        '-seed-2-dropout_rate-0.5'
    """
    parser = OverridesParser.create()
    swept = [override.key_or_group for override in parser.parse_overrides(list(typed)) if override.is_sweep_override()]
    if "name" in swept:
        return ""
    last_parts = Counter(key.rpartition(".")[2] for key in swept)
    values = {override.key_or_group: override.value() for override in parser.parse_overrides(list(concrete))}
    difference = ""
    for key in swept:
        if isinstance(values[key], list | dict):
            raise ConfigurationError(f"{key}={values[key]}: a list cannot be part of a run's name; sweep name=..., too")
        short = key.rpartition(".")[2]
        difference += f"-{short if last_parts[short] == 1 else key}-{str(values[key]).replace('/', '_')}"
    return difference
