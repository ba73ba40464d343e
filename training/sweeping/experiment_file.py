"""A trial as a file in ``configs/experiment/``: a diff on the defaults that stands by itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from roomrec.errors import ConfigurationError
from training.configuration import CONFIGS
from training.sweeping.settings import config_of_trial
from training.sweeping.space import as_override

OF_THE_MACHINE: Final = ("data_dir", "runs_dir", "tracking", "trainer")
"""Settings that say where a run happens, not what it computes; the file leaves them out."""

_OF_THE_RUN: Final = ("name", "resume", "overwrite")


def write_experiment(file: Path, settings: Sequence[str], values: Mapping[str, Any], *, header: Sequence[str]) -> None:
    """Write a trial as an experiment, and see that it composes to what the trial was trained with.

    An experiment that the sweep itself started from is copied into the file.

    Args:
        file: To write, below ``configs/experiment/`` or in a folder of that name elsewhere.
        settings: What trials shared, as typed.
        values: What was drawn.
        header: Lines of the comment on top.

    Raises:
        ConfigurationError: If it does not.
    """
    groups: dict[str, str] = {}
    body = OmegaConf.create({})
    words = [*settings, *(as_override(key, value) for key, value in values.items())]
    overrides = [
        override
        for override in OverridesParser.create().parse_overrides(words)
        if override.key_or_group.partition(".")[0] not in OF_THE_MACHINE
    ]
    for override in overrides:
        if override.key_or_group == "experiment":
            _copy(str(override.value()), groups, body)
    for override in overrides:
        if override.key_or_group == "experiment":
            continue
        if (CONFIGS / override.key_or_group).is_dir():
            groups[override.key_or_group] = str(override.value())
        else:
            OmegaConf.update(body, override.key_or_group, override.value(), force_add=True)
    text = "# @package _global_\n" + "".join(f"# {line}\n" for line in header) + "\n"
    if groups:
        text += "defaults:\n" + "".join(f"  - override /{group}: {name}\n" for group, name in groups.items()) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + (OmegaConf.to_yaml(body) if body else ""))
    if _compared(_composed(file)) != _compared(config_of_trial(settings, values)):
        file.unlink()
        raise ConfigurationError(f"{file} would not say what the trial was trained with: write it by hand")


def _copy(name: str, groups: dict[str, str], body: DictConfig) -> None:
    """Take over what an experiment says, and what those say that it includes."""
    text = OmegaConf.load(CONFIGS / "experiment" / f"{name}.yaml")
    assert isinstance(text, DictConfig)
    for entry in text.pop("defaults", []):
        if isinstance(entry, DictConfig):
            groups.update({str(key).removeprefix("override /"): str(value) for key, value in entry.items()})
        elif entry != "_self_":
            _copy(str(entry), groups, body)
    body.merge_with(text)


def _composed(file: Path) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        words = [f"experiment={file.stem}", f"hydra.searchpath=[file://{file.absolute().parents[1]}]"]
        return compose("train", overrides=words)


def _compared(config: DictConfig) -> Any:
    left_out = (*OF_THE_MACHINE, *_OF_THE_RUN)
    return {key: value for key, value in OmegaConf.to_container(config).items() if key not in left_out}
