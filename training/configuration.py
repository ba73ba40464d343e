"""Mistakes on the command line, answered in a second: the key, what was received, and the closest valid one."""

import contextlib
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from roomrec.errors import ConfigurationError, RoomRecError

CONFIGS: Final = Path(__file__).parents[1] / "configs"
"""Where every job's settings lie."""

MISTAKE_EXIT_CODE: Final = 2
"""Exit code of a job that could not do what it was asked, after one sentence on stderr."""

INTERRUPTED_EXIT_CODE: Final = 130
"""What a shell reports for a process stopped by Ctrl-C."""

_FOLDERS = {"dataset": "processed", "run": "runs", "sweep": "sweeps"}
"""Settings that name a folder, and where below ``data_dir`` those lie."""

_FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir",
                     "-cd", "--experimental-rerun", "--info", "-i")  # fmt: skip


def check_overrides(config_name: str, overrides: Sequence[str]) -> None:
    """Refuse overrides that name something that does not exist, or give a number where a word belongs.

    Args:
        config_name: The job's root config.
        overrides: As typed, e.g. ``["model=sasrec", "seed=1"]``.

    Raises:
        ConfigurationError: With the key and the closest valid one.
    """
    parsed = [_parse(override) for override in overrides]
    groups = [override for override in parsed if _options(override.key_or_group)]
    for override in groups:
        _check_option(override)
    config = compose_config(
        config_name, [str(override.input_line) for override in groups if not override.is_sweep_override()]
    )
    for override in parsed:
        if override not in groups and not override.is_add() and not override.key_or_group.startswith("hydra"):
            _check_key(override, config)
    compose_config(config_name, [str(override.input_line) for override in parsed if not override.is_sweep_override()])


def check_command_line(config_name: str) -> None:
    """Check ``sys.argv`` before Hydra and anything slow sees it; exit with a sentence if it is wrong."""
    words = sys.argv[1:]
    if {"--help", "-h"} & set(words):
        from training.command_help import help_text

        sys.stdout.write(help_text(config_name))
        raise SystemExit(0)
    before = ["", *words]
    overrides = [
        word
        for word, previous in zip(words, before, strict=False)
        if not word.startswith("-") and ("=" in word or previous not in _FLAGS_WITH_VALUE)
    ]
    with one_sentence_errors():
        check_overrides(config_name, overrides)


@contextlib.contextmanager
def one_sentence_errors() -> Iterator[None]:
    """Turn an error RoomRec raises on purpose, or the disk's, into one sentence on stderr and exit code 2."""
    try:
        yield
    except RoomRecError as error:
        _say(type(error).__name__, str(error))
        raise SystemExit(MISTAKE_EXIT_CODE) from None
    except OSError as error:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        _say(type(error).__name__, f"{' -> '.join(names)}: {error.strerror}" if names else str(error))
        raise SystemExit(MISTAKE_EXIT_CODE) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped")
        raise SystemExit(INTERRUPTED_EXIT_CODE) from None


def _say(kind: str, sentence: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]{kind}[/]: ", end="")
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(sentence)


def check_missing(config: DictConfig) -> None:
    """Refuse a config in which a setting that has no default is not set.

    Args:
        config: A job's, composed.

    Raises:
        ConfigurationError: With the key and what there is to choose from.
    """
    for key in sorted(OmegaConf.missing_keys(config)):
        section = key.rpartition(".")[0]
        target = OmegaConf.select(config, f"{section}._target_") if section else None
        expects = getattr(hydra.utils.get_object(target), "expects", None) if target else None
        if key in _FOLDERS:
            raise ConfigurationError(
                f"{key} is not set: choose one with {key}=...; {folders_in(Path(config.data_dir) / _FOLDERS[key])}"
            )
        raise ConfigurationError(f"{key} is not set: expected {expects or f'{key}=...'}")


def folders_in(root: Path) -> str:
    """Say which finished folders there are, e.g. ``found beauty, small in data/processed``."""
    found = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
    where = root if root.is_absolute() or found else f"{root} (in {Path.cwd()})"
    return f"found {', '.join(found) or 'none'} in {where}"


def _parse(override: str) -> Override:
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigurationError(f"{override!r} cannot be read as key=value: {str(error).splitlines()[0]}") from error


def _options(group: str) -> list[str]:
    folder = CONFIGS / group.split("@")[0]
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder.is_dir() else []


def _check_option(override: Override) -> None:
    options = _options(override.key_or_group)
    value = override.value()
    chosen = value if isinstance(value, list) else [value]
    for option in chosen:
        if isinstance(option, str) and option not in options:
            raise ConfigurationError(
                f"{override.key_or_group}={option}: there is no such option"
                f"{_closest(option, options, prefix=override.key_or_group + '=')} (options: {', '.join(options)})"
            )


def _check_key(override: Override, config: DictConfig) -> None:
    key = override.key_or_group
    known = _keys(config)
    if key not in known:
        names = list(known) + [path.name for path in CONFIGS.iterdir() if path.is_dir()]
        raise ConfigurationError(f"there is no setting {key!r}{_closest(key, names)}")
    value = None if override.is_delete() or override.is_sweep_override() else override.value()
    current = known[key]
    number = isinstance(current, int | float) and not isinstance(current, bool)
    if number and isinstance(value, str) and "${" not in value:
        raise ConfigurationError(f"{key} must be a number like {current}, received {value!r}")
    if isinstance(current, bool) and value is not None and not isinstance(value, bool):
        raise ConfigurationError(f"{key} must be true or false, received {value!r}")


def compose_config(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a job's config as its command line would.

    Args:
        config_name: The job's root config.
        overrides: As typed, without sweeps.

    Raises:
        ConfigurationError: If they cannot be composed.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigurationError(str(error).splitlines()[0]) from error
    finally:
        GlobalHydra.instance().clear()


def _keys(config: DictConfig) -> dict[str, Any]:
    """Every dotted key with its value; a section stands for itself too."""
    known: dict[str, Any] = {}

    def visit(node: Any, prefix: str) -> None:
        for key, value in node.items():
            name = f"{prefix}{key}"
            known[name] = None if isinstance(value, dict) else value
            if isinstance(value, dict):
                visit(value, f"{name}.")

    visit(OmegaConf.to_container(config, resolve=False), "")
    return known


def _closest(name: str, names: Sequence[str], *, prefix: str = "") -> str:
    """Say which valid name is meant: by the whole key, or by its last part when it stands in another section."""
    by_last_part = {known.rpartition(".")[2]: known for known in reversed(names)}
    last_part = name.rpartition(".")[2]
    if last_part in by_last_part:
        return f"; did you mean {prefix}{by_last_part[last_part]}?"
    found = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not found:
        parts = difflib.get_close_matches(last_part, list(by_last_part), n=1, cutoff=0.6)
        found = [by_last_part[part] for part in parts]
    return f"; did you mean {prefix}{found[0]!s}?" if found else ""
