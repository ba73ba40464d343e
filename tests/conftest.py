"""What every test may use: the small worlds as datasets, written once a session."""

from pathlib import Path

import pytest

from tests import worlds


@pytest.fixture(scope="session")
def markov_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop log in which each product has one likely successor."""
    return worlds.markov_chain_world(tmp_path_factory.mktemp("markov") / "dataset")


@pytest.fixture(scope="session")
def hopeless_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop log of noise."""
    return worlds.hopeless_world(tmp_path_factory.mktemp("hopeless") / "dataset")


@pytest.fixture(scope="session")
def live_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A live log of six evenings."""
    return worlds.live_room_world(tmp_path_factory.mktemp("live") / "dataset")
