"""Versions for the small shop that differ from what is champion there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from roomrec.bundle import Manifest, Registry
from roomrec.bundle.manifest import hash_files
from roomrec.features.vocabulary import Vocabulary
from tests.bundles import write_tiny_bundle

SHOP = {"streamer": ["mia", "tom", "zoe"], "product": ["silk", "wool", "drill", "saw"]}


def publish(
    root: Path,
    name: str,
    *,
    vocabulary: dict[str, list[str]] | None = None,
    metrics: dict[str, Any] | None = None,
    throws_for_last_product: bool = False,
    throws_for_last_streamer: bool = False,
    gives_nan: bool = False,
    **options: Any,
) -> str:
    """Publish a version to a registry.

    Args:
        root: The registry's folder.
        name: Of the bundle; versions with other names differ.
        vocabulary: Of the model.
        metrics: In its manifest.
        throws_for_last_product: Whether the user encoder throws for a history with the vocabulary's last product.
        throws_for_last_streamer: Whether the item encoder throws for a room of the vocabulary's last streamer.
        gives_nan: Whether the user encoder gives no numbers for a history with the vocabulary's last product.
        options: For ``write_tiny_bundle``.
    """
    folder = root.parent / f"bundle-{name}"
    write_tiny_bundle(folder, Vocabulary(vocabulary or SHOP), model_kind=name, **options)
    if throws_for_last_product:
        _shorten(folder / "user_encoder.onnx", "product_table")
    if throws_for_last_streamer:
        _shorten(folder / "item_encoder.onnx", "streamer_table")
    if gives_nan:
        _spoil(folder / "user_encoder.onnx", "product_table")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = hash_files(folder)
    manifest["metrics"] = metrics or {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert Manifest.read(folder).model_kind == name
    return Registry(root).publish(folder)


def _shorten(file: Path, table: str) -> None:
    """Take the last row from a table, so that looking it up is out of bounds and throws."""
    _change(file, table, lambda rows: rows[:-1])


def _spoil(file: Path, table: str) -> None:
    _change(file, table, lambda rows: np.concatenate([rows[:-1], np.full_like(rows[-1:], np.nan)]))


def _change(file: Path, table: str, change: Any) -> None:
    model = onnx.load(file)
    for place, each in enumerate(model.graph.initializer):
        if each.name == table:
            changed = numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(each))), table)
            model.graph.initializer[place].CopyFrom(changed)
    onnx.save(model, file)
