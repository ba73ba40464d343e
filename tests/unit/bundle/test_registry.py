"""Versions and channels."""

import json
import threading
from itertools import pairwise

import pytest

from roomrec.bundle import Bundle, Registry, channels
from roomrec.errors import BundleError, RegistryConflictError, RegistryError, RegistryUnavailableError
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


def test_a_canary_is_a_challenger_with_a_share(registry, versions):
    registry.promote(versions[0])
    assert registry.in_use() == (versions[0], None, 0.0)
    registry.start_canary(versions[1], share=0.1)
    assert registry.in_use() == (versions[0], versions[1], 0.1)
    registry.start_canary(versions[1], share=0.5)
    assert Registry(registry.root).in_use() == (versions[0], versions[1], 0.5)
    registry.promote(versions[2], channel="challenger")
    assert registry.in_use() == (versions[0], versions[2], 0.0)


def test_promoting_or_withdrawing_a_canary_ends_it(registry, versions):
    registry.promote(versions[0])
    registry.start_canary(versions[1], share=0.1)
    registry.withdraw("challenger", expected=versions[1])
    assert registry.in_use() == (versions[0], None, 0.0)
    registry.start_canary(versions[1], share=0.1)
    registry.promote(versions[1])
    assert registry.in_use() == (versions[1], None, 0.0)


def test_a_canary_outlives_the_promotion_of_a_third(registry, versions):
    registry.promote(versions[0])
    registry.start_canary(versions[1], share=0.1)
    registry.promote(versions[2])
    assert registry.in_use() == (versions[2], versions[1], 0.1)


def test_rolling_back_ends_a_canary(registry, versions):
    registry.promote(versions[0])
    registry.promote(versions[1])
    registry.start_canary(versions[2], share=0.3)
    assert registry.rollback() == versions[0]
    assert registry.in_use() == (versions[0], None, 0.0)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_is_a_share(registry, versions, share):
    with pytest.raises(ValueError, match=r"share must be in 0\.\.1"):
        registry.start_canary(versions[0], share=share)


def test_the_champion_cannot_challenge_itself(registry, versions):
    registry.promote(versions[0])
    for challenge in (
        lambda: registry.start_canary(versions[0], share=0.1),
        lambda: registry.promote(versions[0], "challenger"),
    ):
        with pytest.raises(RegistryConflictError, match="is the champion"):
            challenge()


def test_who_was_slower_changes_nothing(registry, versions):
    registry.promote(versions[0])
    registry.promote(versions[1])
    assert registry.previous() == versions[0]
    registry.promote(versions[2])
    with pytest.raises(RegistryConflictError, match=f"would go back to {versions[1]}, not to {versions[0]}"):
        registry.rollback(expected=versions[0])
    registry.start_canary(versions[0], share=0.1)
    with pytest.raises(RegistryConflictError, match=f"{versions[1]!r} is not challenger"):
        registry.withdraw("challenger", expected=versions[1])
    assert registry.in_use() == (versions[2], versions[0], 0.1)


def test_channels_written_before_there_were_shares(registry, versions):
    (registry.root / "channels.json").write_text(
        json.dumps(
            {
                "champion": {"version": versions[0], "history": []},
                "challenger": {"version": versions[1], "history": []},
            }
        )
    )
    assert registry.in_use() == (versions[0], versions[1], 0.0)


def test_a_folder_that_is_a_file_is_unavailable_and_named(tmp_path, registry, versions):
    damaged = Registry(tmp_path / "damaged")
    damaged.root.write_text("")
    for action in (damaged.versions, damaged.in_use, lambda: damaged.withdraw("challenger")):
        with pytest.raises(RegistryUnavailableError, match="damaged"):
            action()


def test_a_writer_that_hangs_is_named(registry, versions, monkeypatch):
    monkeypatch.setattr(channels, "_LOCK_WAIT_S", 0.05)
    with channels.writing(registry.root), pytest.raises(RegistryUnavailableError, match=r"\.lock has been held"):
        registry.promote(versions[0])
    registry.promote(versions[0])
    assert registry.channel("champion") == versions[0]


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
