"""A small shop with a known model, and an endpoint over it without Ray."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from roomrec.bundle import Registry
from roomrec.features.items import ItemFacts
from roomrec.features.vocabulary import Vocabulary
from serving.api.routes import create_api
from serving.deployments.endpoint import Endpoint
from serving.settings import Settings
from tests.bundles import write_tiny_bundle

with warnings.catch_warnings():
    # starlette's client asks for another package than the httpx that is here; it works with either
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

NOW_MS = 1_800_000_000_000
"""The time in these tests."""


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


def publish_two(root: Path) -> Path:
    """Publish two bundles and promote the older one."""
    vocabulary = Vocabulary(
        {
            "streamer": ["mia", "tom", "zoe"],
            "product": ["silk", "wool", "drill", "saw"],
            "category": ["scarves", "tools"],
        }
    )
    products = [
        ("silk", ItemFacts(None, ["silk"], "scarves", "Silk scarf", 1_990)),
        ("wool", ItemFacts(None, ["wool"], "scarves", "Wool scarf", 2_990)),
        ("drill", ItemFacts(None, ["drill"], "tools", "Drill", 9_900)),
        ("saw", ItemFacts(None, ["saw"], "tools", "Saw", 4_900)),
    ]
    popularity = [("streamer", "tom", 90), ("streamer", "mia", 50), ("product", "saw", 9), ("product", "silk", 5)]
    registry = Registry(root / "registry")
    versions = [
        registry.publish(
            write_tiny_bundle(
                root / f"bundle{seed}",
                vocabulary,
                products=products,
                popularity=popularity,
                seed=seed,
                created_at=f"2026-01-31T10:15:0{seed}+00:00",
            )
        )
        for seed in (1, 2)
    ]
    registry.promote(versions[0])
    return registry.root
