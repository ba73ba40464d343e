"""Settings from three places, and mistakes in them."""

from pathlib import Path

import pytest

from roomrec.errors import ConfigurationError
from serving.settings import Settings


def test_given_beats_environment_beats_default() -> None:
    environment = {"ROOMREC_PORT": "9000", "ROOMREC_REPLICAS": "3", "ROOMREC_ALLOW_NO_MODEL": "true", "OTHER": "x"}
    settings = Settings.read({"port": 9001, "replicas": None}, environment=environment)
    assert (settings.port, settings.replicas, settings.host) == (9001, 3, "127.0.0.1")
    assert settings.allow_no_model


def test_text_as_ray_passes_it_on_is_understood() -> None:
    assert Settings.read({"replicas": "2", "allow_no_model": "false"}, environment={}).replicas == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": "many"}, "port"),
        ({"port": 70_000}, "port must be in 0..65535, received 70000"),
        ({"replicas": 0}, "replicas must be at least 1, received 0"),
        ({"replica": 2}, "replica"),
        ({"event_log": "kafka"}, "kafka"),
        ({"encoder_cache_bytes": -1}, "encoder_cache_bytes must not be negative, received -1"),
        ({"redis_timeout_ms": 0}, "redis_timeout_ms must be at least 1, received 0"),
        ({"redis_read_timeout_ms": 0}, "redis_read_timeout_ms must be at least 1, received 0"),
        ({"redis_user_ttl_days": -1}, "redis_user_ttl_days must not be negative, received -1"),
        ({"redis_prefix": "{shop}"}, "redis_prefix must hold a character and no braces, received '{shop}'"),
    ],
)
def test_mistakes_are_named(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Settings.read(given, environment={})


def test_the_size_formula_gives_a_figure() -> None:
    assert "a million viewers with full histories: 26.7 GB" in Settings(history_limit=200).size_formula()
    assert "log in Redis: events x 300 B, 1000000 are kept" in Settings(event_log="redis").size_formula()


def test_printed_settings_hold_no_password() -> None:
    settings = Settings(redis_url="redis://:hush@127.0.0.1:6379/0")
    assert "hush" not in f"{settings} {settings!r}"


def test_slates_lie_in_the_data_folder_unless_another_disk_is_named() -> None:
    assert Settings(data="here").slates_path == Path("here/slates")
    assert Settings(data="here", slates="/disk/slates").slates_path == Path("/disk/slates")
