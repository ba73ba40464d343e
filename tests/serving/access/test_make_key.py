from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.__main__ import application
from serving.access.access_file import read_access_file
from serving.access.guard import Guard
from serving.access.make_key import make_key


def test_the_lines_let_the_key_in_and_do_not_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    keys = []
    with path.open("a") as file:
        for name in ("web", "app.eu-1"):
            new = make_key(name, "frontend")
            file.write(new.lines)
            keys.append(new.key)
    assert keys[0] != keys[1]
    assert all(len(key) == len("roomrec_") + 43 and key.startswith("roomrec_") for key in keys)
    assert not any(key in path.read_text() for key in keys)
    assert [key.name for key in read_access_file(path).keys] == ["web", "app.eu-1"]
    for key in keys:
        assert Guard(path).check("POST", "/v1/recommendations", {b"x-api-key": key.encode()}) is None


def test_the_command_puts_the_lines_apart_from_the_key(tmp_path: Path) -> None:
    done = CliRunner().invoke(application, ["make-key", "--role", "auditor", "--name", "law"])
    assert done.exit_code == 0
    key = done.stderr.split()[-1]
    (tmp_path / "access.toml").write_text(done.stdout)
    assert key not in done.stdout
    assert Guard(tmp_path / "access.toml").check("GET", "/metrics", {b"x-api-key": key.encode()}) is None


@pytest.mark.parametrize(
    ("role", "name", "said"),
    [
        ("boss", "web", "choose of frontend"),
        ("auditor", 'a"b', "a name is made of"),
        ("auditor", "", "a name is made of"),
    ],
)
def test_what_makes_no_key_is_said(role: str, name: str, said: str) -> None:
    done = CliRunner().invoke(application, ["make-key", "--role", role, "--name", name])
    assert done.exit_code == 1
    assert said in done.stderr
