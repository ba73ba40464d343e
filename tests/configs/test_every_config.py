"""Every YAML below configs/ composes, and what it would pass to its target fits the target's signature."""

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig

CONFIGS = Path(__file__).parents[2] / "configs"
ROOTS = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
OPTIONS = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*/*.yaml"))


def groups_of(root: str) -> set[str]:
    """Groups in a root's defaults list, e.g. ``model`` and ``override /model`` alike."""
    entries = yaml.safe_load((CONFIGS / f"{root}.yaml").read_text()).get("defaults", [])
    names = {next(iter(entry)) for entry in entries if isinstance(entry, dict)}
    return {name.removeprefix("optional ").removeprefix("override ").lstrip("/").split("@")[0] for name in names}


def targets(node: object, place: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Every node with a ``_target_``: where it is, the target, and the names it passes."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield place, node._get_node("_target_")._value(), [str(key) for key in node if not str(key).startswith("_")]
        for key in node:
            yield from targets(node._get_node(key), f"{place}.{key}".lstrip("."))
    elif isinstance(node, ListConfig):
        for index in range(len(node)):
            yield from targets(node._get_node(index), f"{place}[{index}]")


def check(root: str, overrides: list[str]) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(root, overrides=overrides)
    for place, target, names in targets(config):
        signature = inspect.signature(get_object(target))
        try:
            signature.bind_partial(**dict.fromkeys(names))
        except TypeError as error:
            pytest.fail(f"{root} {overrides}: {place} passes {names} to {target}{signature}: {error}")


@pytest.mark.parametrize("root", ROOTS)
def test_every_job_composes(root):
    check(root, [])


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_in_a_job_that_has_its_group(option):
    group, _, name = option.rpartition("/")
    roots = [root for root in ROOTS if group in groups_of(root)]
    assert roots, f"no root config has the group {group!r} in its defaults, so nobody can choose {option}"
    for root in roots:
        check(root, [f"{group}={name}"])


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith("experiment/")])
def test_every_experiment_says_why(option):
    header = (CONFIGS / f"{option}.yaml").read_text().split("\n\n")[0].lower()
    for word in ("why", "date", "command", "expected"):
        assert word in header, f"{option} has no {word!r} in its header comment"
