from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from roomrec.errors import ConfigurationError
from serving.deployments.endpoint import Endpoint
from serving.privacy.pseudonyms import Pseudonyms
from serving.settings import Settings
from serving.state.sqlite_event_log import SqliteEventLog
from tests.serving.evening import event


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    log = SqliteEventLog(tmp_path / "events.sqlite")
    yield log
    log.close()


def settings(tmp_path: Path, key: str | None = "k" * 32) -> Settings:
    name = ""
    if key is not None:
        (tmp_path / "key").write_text(key + "\n")
        name = str(tmp_path / "key")
    return Settings(data=str(tmp_path / "data"), pseudonym_key_file=name)


def test_the_same_viewer_has_the_same_pseudonym_and_no_other() -> None:
    one, other = Pseudonyms(b"k" * 32), Pseudonyms(b"l" * 32)
    assert one.of("anna") == one.of("anna") == "p_9e97de979b429cd09360945bf2b60438"
    assert len({pseudonyms.of(name) for pseudonyms in (one, other) for name in ("anna", "Anna", "anna ", "")}) == 8
    assert one.of("\ud800") != one.of("\ud801")
    assert len(one.of("x" * 10_000)) == 34


def test_without_a_key_ids_stay() -> None:
    assert Pseudonyms(None).of("anna") == "anna"
    assert not Pseudonyms(None)
    assert Pseudonyms(b"k" * 32)


def test_a_log_goes_on_with_the_key_it_began_with(tmp_path: Path, log: SqliteEventLog) -> None:
    first = Pseudonyms.open(settings(tmp_path), log)
    again = Pseudonyms.open(settings(tmp_path), log)
    assert first.of("anna") == again.of("anna") != "anna"
    assert "k" * 8 not in str(log.note("pseudonym_key"))
    with pytest.raises(ConfigurationError, match="is not the one the pseudonyms of the event log were made with"):
        Pseudonyms.open(settings(tmp_path, "l" * 32), log)
    with pytest.raises(ConfigurationError, match="pseudonym_key_file is not set"):
        Pseudonyms.open(settings(tmp_path, None), log)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_log_without_pseudonyms_stays_so(tmp_path: Path, log: SqliteEventLog, is_old: bool) -> None:
    if is_old:  # written before there were pseudonyms
        log.append([event("follow", user_id="u1", streamer_id="mia", received_at_ms=1)])
    else:
        assert not Pseudonyms.open(settings(tmp_path, None), log)
    with pytest.raises(ConfigurationError, match="was begun with user ids as they come"):
        Pseudonyms.open(settings(tmp_path), log)
    assert not Pseudonyms.open(settings(tmp_path, None), log)


def test_a_key_that_cannot_be_used_is_said(tmp_path: Path, log: SqliteEventLog) -> None:
    with pytest.raises(ConfigurationError, match="holds 31 bytes"):
        Pseudonyms.open(settings(tmp_path, "k" * 31), log)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Pseudonyms.open(Settings(pseudonym_key_file=str(tmp_path / "none")), log)
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Pseudonyms(b"short")
    assert log.note("pseudonym_key") is None


def test_an_endpoint_does_not_start_with_another_key(tmp_path: Path, registry_path: Path) -> None:
    first = msgspec.structs.replace(settings(tmp_path), registry=str(registry_path))
    Endpoint.open(first).close_files()
    with pytest.raises(ConfigurationError, match="pseudonym_key_file is not set"):
        Endpoint.open(msgspec.structs.replace(first, pseudonym_key_file=""))
    Endpoint.open(first).close_files()
