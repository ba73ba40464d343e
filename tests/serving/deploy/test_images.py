"""The Dockerfiles: linted, made of what is in the repository, and of what the endpoint needs."""

import fnmatch
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.serving.deploy.manifests import DEPLOY, ROOT

DOCKERFILES = [DEPLOY / "Dockerfile.serving", DEPLOY / "Dockerfile.training"]


def instructions(file: Path, name: str) -> list[list[str]]:
    """The words after an instruction, wherever it stands."""
    lines = file.read_text().replace("\\\n", " ").splitlines()
    return [line.split()[1:] for line in lines if line.startswith(name + " ")]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.suffix)
def test_hadolint_finds_nothing(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None
    done = subprocess.run([hadolint, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.suffix)
def test_what_is_copied_exists_and_is_let_through(file: Path) -> None:
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [words[:-1] for words in instructions(file, "COPY") if not words[0].startswith("--from")]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in let_through), source


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.suffix)
def test_nobody_is_root_in_it_and_pythons_agree(file: Path) -> None:
    assert instructions(file, "USER") == [["10001"]]
    (argument,) = [words[0] for words in instructions(file, "ARG") if words[0].startswith("PYTHON=")]
    assert fnmatch.fnmatch(argument, "PYTHON=python:3.11-slim-*")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == ">=3.11,<3.13"


def test_serving_installs_the_extra_without_torch_and_the_build_would_fail_with_it() -> None:
    text = DOCKERFILES[0].read_text()
    assert 'pip install --no-cache-dir -c requirements/constraints.txt ".[${EXTRA}]"' in text
    assert "ARG EXTRA=serve\n" in text
    assert "importlib.util.find_spec('torch') is None" in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not any("torch" in package for name in ("serve", "serve-gpu", "endpoint") for package in extras[name])
