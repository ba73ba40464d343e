"""A registry to be changed, and settings that use it."""

import shutil
from pathlib import Path

import msgspec
import pytest

from roomrec.bundle import Registry
from serving.settings import Settings


@pytest.fixture
def registry(tmp_path: Path, registry_path: Path) -> Registry:
    """The shop's two versions of which the first is champion, to be changed."""
    return Registry(Path(shutil.copytree(registry_path, tmp_path / "registry")))


@pytest.fixture
def here(settings: Settings, registry: Registry) -> Settings:
    return msgspec.structs.replace(settings, registry=str(registry.root), poll_ms=10, shadow_share=1.0)
