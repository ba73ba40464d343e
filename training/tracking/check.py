"""Refuses what ``tracking=...`` cannot do here, before torch is imported and before anything is written."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit

from omegaconf import DictConfig

from roomrec.errors import ConfigurationError

_PACKAGES: Final[Mapping[str, str]] = {"mlflow": "mlflow-skinny", "wandb": "wandb"}
"""Modules that trackers need beyond the ``train`` extra, and the package of each."""


def check_tracking(tracking: DictConfig) -> None:
    """Refuse a tracker whose package is missing, and an address that holds a password.

    Args:
        tracking: The section of that name.

    Raises:
        ConfigurationError: With what to install, or where the password belongs.
    """
    for name, package in _PACKAGES.items():
        if name in tracking and find_spec(name) is None:
            raise ConfigurationError(
                f"tracking={name} needs the package {package}: "
                "pip install -c requirements/constraints.txt -e '.[tracking]'"
            )
    uri: Any = tracking.get("mlflow", {}).get("uri")
    if uri and urlsplit(str(uri)).password:
        raise ConfigurationError(
            "tracking.mlflow.uri holds a password, which would be written into every run: take it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
