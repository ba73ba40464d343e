"""What a run stands on: the code's revision, packages, the machine; no environment variables: they hold secrets."""

import os
import platform
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

_MAIN_PACKAGES: Final = ("roomrec", "torch", "torchrec", "pytorch-lightning", "hydra-core", "numpy", "pyarrow")
"""Those that trackers are told of; the run's folder lists all."""


def describe_environment() -> dict[str, Any]:
    """Return what the process runs on, as plain values."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "code_revision": code_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": gpus[0] if gpus else "cpu",
        "hardware": {
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpus": gpus,
        },
        "threads": torch.get_num_threads(),
        "packages": dict(sorted((found.metadata["Name"], found.version) for found in distributions())),
    }


def without_minor_packages(environment: dict[str, Any]) -> dict[str, Any]:
    """Return a description that fits a tracker's table: of the packages only those that decide about results."""
    packages = environment["packages"]
    return environment | {"packages": {name: packages[name] for name in _MAIN_PACKAGES if name in packages}}


def code_revision() -> str:
    """Return the commit the code stands at, with ``+changes`` if the checkout differs; empty outside a checkout."""
    root = Path(__file__).parents[1]
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+changes"], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return described.stdout.strip()


def _cpu_name() -> str:
    """The processor's name as Linux says it, else as Python does."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
