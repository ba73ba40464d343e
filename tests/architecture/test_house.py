"""The house rules a machine can check."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANNED_ROOMS = {"data", "training", "serving", "utils", "helpers", "common", "core", "base", "impl", "misc", "manager"}
MODULES = sorted((ROOT / "src" / "roomrec").rglob("*.py"))


def test_no_room_has_a_name_that_says_nothing():
    inside = [path.relative_to(ROOT / "src" / "roomrec") for path in MODULES]
    assert [str(path) for path in inside if BANNED_ROOMS & {*path.parts[:-1], path.stem}] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_every_module_opens_with_one_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":")) or "." in docstring.split("\n\n")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_modules_are_of_one_idea(path):
    assert len(path.read_text().splitlines()) <= 500


def test_serving_never_loads_torch():
    code = (
        "import sys, pkgutil, importlib, serving\n"
        "for module in pkgutil.walk_packages(serving.__path__, 'serving.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "bad = {'torch', 'torchrec', 'hydra', 'pytorch_lightning', 'lightning'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(bad)}' if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
