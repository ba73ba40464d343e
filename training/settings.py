"""Settings that several jobs share, checked before anything slow is imported."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from roomrec.errors import ConfigurationError, DatasetError, RoomRecError
from training.configuration import folders_in


def require_run(config: DictConfig, key: str = "run") -> Path:
    """Return the folder of the run that a config names: itself, or a name below ``data_dir/runs``.

    Args:
        config: Of a job.
        key: The setting that names the run.

    Raises:
        ConfigurationError: If there is no such run; the message says which there are.
    """
    root = Path(config.data_dir) / "runs"
    folder = folder_of(config[key], root)
    if folder is None:
        raise ConfigurationError(f"{key}={config[key]}: there is no such run; {folders_in(root)}")
    return folder


def require_dataset(name: Any, data_dir: Path) -> Path:
    """Return the folder of a dataset: itself, or a name below ``data_dir/processed``.

    Raises:
        DatasetError: If there is none; the message says which there are.
    """
    root = data_dir / "processed"
    folder = folder_of(name, root)
    if folder is None:
        raise DatasetError(
            f"no processed dataset at {root / str(name)}: make it with `python -m training.preprocess`; "
            f"{folders_in(root)}"
        )
    return folder


def folder_of(name: Any, root: Path) -> Path | None:
    """Return the folder itself if it is one, else the folder of that name below the root, else None."""
    if not name:
        return None
    return next((folder for folder in (Path(str(name)), root / str(name)) if folder.is_dir()), None)


def check_whole_number(
    config: DictConfig, key: str, *, at_least: int, at_most: int | None = None, optional: bool = False
) -> None:
    """Refuse anything but a whole number from ``at_least`` to ``at_most``, or null where it is optional.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    value = OmegaConf.select(config, key)
    if value is None and optional:
        return
    in_range = isinstance(value, int) and value >= at_least and (at_most is None or value <= at_most)
    if isinstance(value, bool) or not in_range:
        least = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"
        raise ConfigurationError(f"{key} is {value!r}: expected a whole number {least}{' or null' if optional else ''}")


def check_depths(config: DictConfig, key: str) -> None:
    """Refuse depths of metrics that are no list of whole numbers from 1.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    value = OmegaConf.select(config, key)
    if not isinstance(value, ListConfig) or not value or any(not isinstance(k, int) or k < 1 for k in value):
        raise ConfigurationError(f"{key} is {value}: expected whole numbers of at least 1, as in {key}=[5,10]")


def check_name(key: str, name: str) -> None:
    """Refuse the name of a folder to write that leads elsewhere.

    Raises:
        ConfigurationError: With the key and what was received.
    """
    if Path(name).name != name:
        raise ConfigurationError(f"{key} is {name!r}: expected the name of a folder, without / or ..")


@contextlib.contextmanager
def mistakes_in(section: str, *more: type[Exception]) -> Iterator[None]:
    """Name the section of the config in what libraries say of a value that they refuse.

    Args:
        section: E.g. ``model``.
        more: What they raise besides Python's own errors.

    Raises:
        ConfigurationError: Instead of what they raise.
    """
    try:
        yield
    except (ValueError, TypeError, RuntimeError, ImportError, HydraException, *more) as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        if isinstance(cause, RoomRecError):
            raise cause from None
        raise ConfigurationError(f"{section}: {str(cause).strip().splitlines()[0]}") from error
