from pathlib import Path

import pytest

from roomrec.errors import ConfigurationError
from serving.privacy.pseudonyms import Pseudonyms
from serving.settings import Settings


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


def test_data_goes_on_with_the_key_it_began_with(tmp_path: Path) -> None:
    first = Pseudonyms.open(settings(tmp_path), has_events=False)
    again = Pseudonyms.open(settings(tmp_path), has_events=True)
    assert first.of("anna") == again.of("anna") != "anna"
    stored = (tmp_path / "data" / "pseudonyms.json").read_text()
    assert "k" * 8 not in stored
    with pytest.raises(ConfigurationError, match="is not the one that the pseudonyms"):
        Pseudonyms.open(settings(tmp_path, "l" * 32), has_events=True)
    with pytest.raises(ConfigurationError, match="is not the one that the pseudonyms"):
        Pseudonyms.open(settings(tmp_path, "l" * 32), has_events=False)
    with pytest.raises(ConfigurationError, match="pseudonym_key_file is not set"):
        Pseudonyms.open(settings(tmp_path, None), has_events=True)


def test_data_without_pseudonyms_stays_so(tmp_path: Path) -> None:
    assert not Pseudonyms.open(settings(tmp_path, None), has_events=True)
    with pytest.raises(ConfigurationError, match="were written with ids as they came"):
        Pseudonyms.open(settings(tmp_path), has_events=True)
    assert not (tmp_path / "data").exists()


def test_a_key_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds 31 bytes"):
        Pseudonyms.open(settings(tmp_path, "k" * 31), has_events=False)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Pseudonyms.open(Settings(data=str(tmp_path), pseudonym_key_file=str(tmp_path / "none")), has_events=False)
    (tmp_path / "pseudonyms.json").write_text("{")
    with pytest.raises(ConfigurationError, match="which key the data was written with"):
        Pseudonyms.open(Settings(data=str(tmp_path)), has_events=True)
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Pseudonyms(b"short")
