"""Versions and channels."""

import json
import threading
from itertools import pairwise

import pytest

from roomrec.bundle import Bundle, Registry
from roomrec.errors import BundleError, RegistryError
from roomrec.features.vocabulary import Vocabulary
from tests.bundles import write_tiny_bundle


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry")


@pytest.fixture
def versions(tmp_path, registry):
    """Three versions, published youngest first."""
    vocabulary = Vocabulary({"streamer": ["mia"]})
    published = []
    for hour in (12, 11, 10):
        folder = tmp_path / f"bundle{hour}"
        write_tiny_bundle(folder, vocabulary, seed=hour, created_at=f"2026-01-31T{hour}:15:00+00:00")
        published.append(registry.publish(folder))
    return published[::-1]


def test_an_empty_registry_answers(registry):
    assert registry.versions() == []
    assert registry.channel("champion") is None
    with pytest.raises(RegistryError, match="no version to go back to"):
        registry.rollback()


def test_names_sort_by_age(registry, versions):
    assert registry.versions() == versions
    assert [name[:15] for name in versions] == ["20260131T101500", "20260131T111500", "20260131T121500"]
    assert Bundle.open(registry.path(versions[1])).manifest.metrics == {"seed": 11}


def test_publishing_the_same_bundle_again_is_the_same_version(tmp_path, registry, versions):
    assert registry.publish(tmp_path / "bundle11") == versions[1]
    assert registry.versions() == versions
    assert not [entry for entry in (registry.root / "versions").iterdir() if entry.name.startswith(".")]


def test_an_altered_bundle_is_not_published(tmp_path, registry):
    bundle = write_tiny_bundle(tmp_path / "bundle", Vocabulary({}))
    (bundle / "parity.json").write_text("{}")
    with pytest.raises(BundleError, match=r"parity\.json has sha256"):
        registry.publish(bundle)
    assert registry.versions() == []
    assert list((registry.root / "versions").iterdir()) == []


def test_promote_and_rollback_step_by_step(registry, versions):
    first, second, third = versions
    registry.promote(first)
    registry.promote(second)
    registry.promote(second)
    registry.promote(third)
    assert registry.channel("champion") == third
    assert registry.rollback() == second
    assert registry.rollback() == first
    assert registry.channel("champion") == first
    with pytest.raises(RegistryError, match="no version to go back to"):
        registry.rollback()
    assert registry.channel("champion") == first


def test_a_challenger_that_wins_is_no_challenger_any_more(registry, versions):
    registry.promote(versions[0])
    registry.promote(versions[1], channel="challenger")
    assert (registry.channel("champion"), registry.channel("challenger")) == (versions[0], versions[1])
    registry.promote(versions[1])
    assert (registry.channel("champion"), registry.channel("challenger")) == (versions[1], None)


def test_a_challenger_can_be_withdrawn(registry, versions):
    registry.promote(versions[0], channel="challenger")
    registry.withdraw("challenger")
    assert registry.channel("challenger") is None
    assert registry.rollback("challenger") == versions[0]


def test_what_does_not_exist_is_said(registry, versions):
    with pytest.raises(RegistryError, match=f"'nope' is not in .*{versions[0]}"):
        registry.promote("nope")
    for action in (registry.channel, registry.rollback, registry.withdraw):
        with pytest.raises(RegistryError, match="'canary' does not exist; there are"):
            action("canary")
    with pytest.raises(RegistryError, match="'canary' does not exist"):
        registry.promote(versions[0], channel="canary")


def test_a_version_altered_since_is_not_promoted(registry, versions):
    (registry.path(versions[0]) / "parity.json").write_text("{}")
    with pytest.raises(BundleError, match=r"parity\.json"):
        registry.promote(versions[0])
    assert registry.channel("champion") is None


def test_a_manifest_altered_since_is_neither_opened_nor_promoted(registry, versions):
    file = registry.path(versions[0]) / "manifest.json"
    file.write_text(file.read_text().replace('"max_sequence_length": 20', '"max_sequence_length": 10'))
    for action in (registry.promote, registry.open):
        with pytest.raises(BundleError, match=f"the manifest of version {versions[0]} was altered"):
            action(versions[0])


def test_a_version_is_opened_by_name(registry, versions):
    assert registry.open(versions[1]).manifest.metrics == {"seed": 11}


@pytest.mark.parametrize("text", ["{", "{}", '{"champion": 1, "challenger": 2}'])
def test_a_damaged_channel_file_is_named(registry, versions, text):
    (registry.root / "channels.json").write_text(text)
    with pytest.raises(RegistryError, match=r"channels\.json cannot be read"):
        registry.channel("champion")


def test_writers_at_once_lose_nothing(registry, versions):
    threads = [threading.Thread(target=registry.promote, args=(versions[place % 3],)) for place in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = json.loads((registry.root / "channels.json").read_text())["champion"]
    steps = [*stored["history"], stored["version"]]
    assert set(steps) == set(versions)
    assert all(before != after for before, after in pairwise(steps))
