"""Settings that the jobs after training share, checked before anything slow is imported."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from roomrec.errors import ConfigurationError


def require_run(config: DictConfig) -> Path:
    """Return the folder of the run that a config names: itself, or a name below ``data_dir/runs``.

    Raises:
        ConfigurationError: If ``run`` is not set or there is no such run; the message says which there are.
    """
    root = Path(config.data_dir) / "runs"
    found = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if OmegaConf.is_missing(config, "run"):
        raise ConfigurationError(f"run is not set: choose one with run=..., found {found} in {root}")
    folder = folder_of(str(config.run), root)
    if not folder.is_dir():
        raise ConfigurationError(f"run={config.run}: there is no such run in {root}; found {found}")
    return folder


def folder_of(name: str, root: Path) -> Path:
    """Return the folder itself if it is one, else the folder of that name below the root."""
    given = Path(name)
    return given if given.is_dir() else root / name
