"""What a result depends on, as one short text: settings, data, and the code that computes it."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from training.configuration import CONFIGS

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""

MAKING_CODE: Final = {
    "simulate": ("src/roomrec/events/*.py", "src/roomrec/simulator/*.py", "training/simulate.py"),
    "preprocess": (
        "src/roomrec/events/**/*.py",
        "src/roomrec/features/*.py",
        "src/roomrec/ids.py",
        "src/roomrec/sequences/*.py",
        "training/preprocess.py",
        "training/preprocessing/*.py",
    ),
}
"""What decides about a folder made, by the job that makes it."""

TRAINING_CODE: Final = (
    "src/roomrec/batches/*.py",
    "src/roomrec/features/*.py",
    "src/roomrec/ids.py",
    "src/roomrec/losses/*.py",
    "src/roomrec/models/*.py",
    "src/roomrec/sequences/*.py",
    "training/assembly.py",
    "training/datamodule.py",
    "training/train.py",
    "training/trainer.py",
    "training/modules/*.py",
    "training/callbacks/full_ranking.py",
    "src/roomrec/metrics/*.py",
    "training/evaluation/candidates.py",
    "training/evaluation/encoder_scorer.py",
    "training/evaluation/ranking.py",
)
"""What decides about a trained model, the choice of its best epoch included."""

MEASURING_CODE: Final = (
    "src/roomrec/metrics/*.py",
    "src/roomrec/sequences/*.py",
    "training/evaluation/*.py",
    "scripts/bench_quality/measuring.py",
)
"""What decides about a measurement."""

_NO_DIFFERENCE: Final = ("resume", "overwrite", "runs_dir", "data_dir", "name", "tracking", "hydra")


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def code_fingerprint(patterns: Iterable[str], *, root: Path = ROOT) -> str:
    """Return a fingerprint of source files that comments, docstrings and layout do not change.

    Args:
        patterns: Globs below the root.
        root: Where the files lie.
    """
    files = sorted({file for pattern in patterns for file in root.glob(pattern)})
    return fingerprint([[file.relative_to(root).as_posix(), _meaning(file.read_text())] for file in files])


def files_fingerprint(place: Path) -> str:
    """Return a fingerprint of a file, or of all files below a folder: their places in it and their bytes.

    Raises:
        FileNotFoundError: If there is neither.
    """
    files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
    found = []
    for file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found.append([file.relative_to(place).as_posix(), digest])
    return fingerprint(found)


def composed(config_name: str, overrides: list[str]) -> dict[str, Any]:
    """Return a job's config as plain values, without what makes no difference to the result."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(config_name, overrides=overrides)
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items() if key not in _NO_DIFFERENCE}


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _is_text(one)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
