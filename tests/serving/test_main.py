"""The command line says what is wrong in a sentence; starting for real is tested with Ray."""

import re
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from serving.__main__ import application
from serving.settings import Settings
from serving.state.lmdb_state_store import LmdbStateStore
from serving.state.records import unpack_user
from serving.state.slate_log import SlateLog
from serving.state.sqlite_event_log import SqliteEventLog
from tests.contracts.state_store_contract import enter
from tests.serving.state.test_slate_log import feed, slate


def run(*arguments: str) -> Result:
    return CliRunner().invoke(application, list(arguments))


def said(result: Result) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", result.output).split())


def test_help_names_every_option_with_its_default() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("--registry", "--data", "--host", "--port", "--replicas", "--allow-no-model", "rebuild-state", "8000"):
        assert word in said(result)


def test_the_first_pages_name_only_options_there_are() -> None:
    root = Path(__file__).parents[2]
    pages = [(root / name).read_text() for name in ("README.md", "serving/README.md")]
    commands = re.findall(r"python -m serving (.*)", "\n".join(pages))
    known = {word for name in ([], ["rebuild-state"], ["make-key"]) for word in said(run(*name, "--help")).split()}
    assert len(commands) >= 4
    assert {option for command in commands for option in re.findall(r"--[a-z-]+", command)} <= known


def test_a_registry_without_champion_is_refused(tmp_path: Path) -> None:
    result = run("--registry", str(tmp_path / "none"), "--data", str(tmp_path / "data"), "--port", "0")
    assert result.exit_code == 1
    assert "has no champion" in said(result)
    assert "--allow-no-model" in said(result)


def test_a_taken_port_is_refused(tmp_path: Path, registry_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = run("--registry", str(registry_path), "--data", str(tmp_path), "--port", port)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use)" in said(result)


@pytest.mark.parametrize(("arguments", "message"), [(("--replicas", "0"), "replicas must be at least 1")])
def test_bad_settings_are_refused(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert message in said(result)


def test_the_state_can_be_rebuilt_even_if_it_is_damaged(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    log = SqliteEventLog(settings.event_log_path)
    log.append([enter(1), enter(2)])
    log.close()
    assert "state rebuilt up to event 2" in said(run("rebuild-state", "--data", str(tmp_path)))
    (settings.state_path / "data.mdb").write_bytes(b"x" * 16_384)
    result = run("rebuild-state", "--data", str(tmp_path))
    assert result.exit_code == 0
    assert "state rebuilt up to event 2" in said(result)


def test_rebuilding_forgets_nothing_that_the_endpoint_was_told_to_remember(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path), history_limit=300)
    log = SqliteEventLog(settings.event_log_path)
    log.append([enter(at_ms) for at_ms in range(250)])
    LmdbStateStore(settings.state_path, log, history_limit=300).close()
    assert "state rebuilt up to event 250" in said(run("rebuild-state", "--data", str(tmp_path)))
    store = LmdbStateStore(settings.state_path, log, history_limit=300)
    user = store.read_user("u1")[1]
    assert user is not None
    assert len(unpack_user(user).events) == 250
    store.close()
    log.close()


@pytest.mark.parametrize("command", [["rebuild-state"], ["export-events", "out"], ["export-slates", "out"]])
def test_bad_settings_in_the_environment_are_said(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("ROOMREC_PORT", "many")
    result = run(*command)
    assert result.exit_code == 1
    assert "settings do not fit" in said(result)


def test_there_must_be_a_log_to_rebuild_from(tmp_path: Path) -> None:
    result = run("rebuild-state", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert "there is no event log" in said(result)


def test_the_log_can_be_exported_once(tmp_path: Path) -> None:
    log = SqliteEventLog(Settings(data=str(tmp_path)).event_log_path)
    log.append([enter(1), enter(2)])
    log.close()
    arguments = ("export-events", str(tmp_path / "out"), "--data", str(tmp_path))
    assert "2 events written" in said(run(*arguments))
    again = run(*arguments)
    assert again.exit_code == 1
    assert "is not empty" in said(again)
    assert "there is no event log" in said(run("export-events", str(tmp_path / "x"), "--data", str(tmp_path / "none")))


def test_slates_can_be_exported_once(tmp_path: Path) -> None:
    arguments = ("export-slates", str(tmp_path / "out"), "--data", str(tmp_path))
    result = run(*arguments)
    assert result.exit_code == 1
    assert "there are no slates" in said(result)
    log = SlateLog(Settings(data=str(tmp_path)).slates_path)
    log.append(feed(), slate(1), 7)
    log.close()
    assert "1 slates written" in said(run(*arguments))
    assert "is not empty" in said(run(*arguments))
