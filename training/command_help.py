"""``--help`` of a job: what it does, what can be chosen, every setting with its default and what it means."""

import re

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from training.configuration import CONFIGS


def help_text(config_name: str) -> str:
    """Return the text for a job.

    Args:
        config_name: Its root config; what its comments say is repeated beside the settings.
    """
    source = (CONFIGS / f"{config_name}.yaml").read_text(encoding="utf-8")
    defaults, comments = _choices_and_comments(config_name)
    lines = [source.splitlines()[0].removeprefix("# "), ""]
    if defaults:
        lines.append("Choices (name=choice; * is the default):")
        for group, chosen in defaults.items():
            options = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
            lines.append(f"  {group}: {', '.join(option + '*' * (option == chosen) for option in options)}")
        lines.append("")
    lines += ["Settings (name=value, section.name=value; ??? must be given):"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        settings = OmegaConf.to_yaml(compose(config_name))
    for group, chosen in defaults.items():
        if chosen is not None:
            text = (CONFIGS / group / f"{chosen}.yaml").read_text(encoding="utf-8")
            comments |= _comments(text) if "@package _global_" in text else _comments(text, section=group)
    for line, key in _keyed(settings):
        lines.append(f"  {line}{'  # ' + comments[key] if key in comments else ''}")
    lines += ["", "Other flags (--cfg job shows the settings composed, -m sweeps over value,value): --hydra-help", ""]
    return "\n".join(lines)


def _choices_and_comments(config_name: str) -> tuple[dict[str, str | None], dict[str, str]]:
    """Groups of a root config with what is chosen, and comments by key; of configs that it includes, too."""
    source = (CONFIGS / f"{config_name}.yaml").read_text(encoding="utf-8")
    choices: dict[str, str | None] = {}
    comments: dict[str, str] = {}
    for entry in yaml.safe_load(source)["defaults"]:
        if isinstance(entry, dict):
            choices |= {name: chosen for name, chosen in entry.items() if not name.startswith("override ")}
        elif entry != "_self_":
            included_choices, included_comments = _choices_and_comments(entry)
            choices |= included_choices
            comments |= included_comments
    return choices, comments | _comments(source)


def _keyed(text: str) -> list[tuple[str, str]]:
    """Each line of a YAML text with the dotted key that it sets; an item of a list has none."""
    open_keys: list[tuple[int, str]] = []
    keyed = []
    for line in text.splitlines():
        found = re.match(r"^( *)([A-Za-z_]\w*):", line)
        key = ""
        if found:
            depth = len(found[1])
            open_keys = [*(entry for entry in open_keys if entry[0] < depth), (depth, found[2])]
            key = ".".join(name for _, name in open_keys)
        keyed.append((line, key))
    return keyed


def _comments(text: str, *, section: str = "") -> dict[str, str]:
    """Dotted keys of a YAML text with the comment at the end of their line."""
    found = {}
    for line, key in _keyed(text):
        _, separator, comment = line.partition(" # ")
        if key and separator:
            found[f"{section}.{key}" if section else key] = comment.strip()
    return found
