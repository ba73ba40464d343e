"""An endpoint over the small shop, without Ray."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.serving.shop import NOW_MS, publish_two

with warnings.catch_warnings():
    # starlette's client asks for another package than the httpx that is here; it works with either
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient


@pytest.fixture(scope="session")
def registry_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with two versions of which the first is champion; only read."""
    return publish_two(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def settings(tmp_path: Path, registry_path: Path) -> Settings:
    return Settings(registry=str(registry_path), data=str(tmp_path / "serving"), history_limit=50)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(
        create_api(Endpoint.open(settings, now_ms=lambda: NOW_MS)), raise_server_exceptions=False
    ) as client:
        yield client
