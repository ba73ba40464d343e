"""A registry whose model knows the hosts and products of the load, written in a second and without torch."""

import dataclasses
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from roomrec.bundle import Registry
from roomrec.bundle.manifest import MANIFEST_FILE, Manifest, hash_files
from roomrec.features.items import ItemFacts
from roomrec.features.vocabulary import Vocabulary
from tests.bundles import write_tiny_bundle

ROOMS: Final = 40
"""Hosts of the load."""

PRODUCTS: Final = 10
"""Products of each."""

POISON: Final = "poison"
"""A product: the model that throws does so for whoever has looked at it."""


class Ids(NamedTuple):
    """Files of ids for the load, one a line."""

    streamers: Path
    products: Path


def publish(folder: Path) -> tuple[Path, list[str], Ids]:
    """Publish a version that is well and one that throws, and promote the first.

    Returns:
        The registry, its versions and the ids they know.
    """
    streamers = [f"host-{number:03d}" for number in range(ROOMS)]
    products = [f"product-{number:04d}" for number in range(ROOMS * PRODUCTS)]
    ids = Ids(folder / "streamers.txt", folder / "products.txt")
    ids.streamers.write_text("\n".join(streamers))
    ids.products.write_text("\n".join(products))
    vocabulary = Vocabulary(
        {
            "streamer": streamers,
            "product": [*products, POISON],
            "category": [f"category {number}" for number in range(20)],
        }
    )
    facts = [
        (name, ItemFacts(None, [name], f"category {number % 20}", name, 1_990))
        for number, name in enumerate([*products, POISON])
    ]
    registry = Registry(folder / "registry")
    versions = []
    for seed in (1, 2):
        path = write_tiny_bundle(
            folder / f"bundle{seed}",
            vocabulary,
            products=facts,
            popularity=[("streamer", name, ROOMS - number) for number, name in enumerate(streamers)],
            seed=seed,
            created_at=f"2026-01-31T10:15:0{seed}+00:00",
        )
        if seed == 2:
            _throw_for(path, vocabulary.index("product", POISON))
        versions.append(registry.publish(path))
    registry.promote(versions[0])
    return registry.root, versions, ids


def _throw_for(path: Path, product_index: int) -> None:
    """Change a bundle's user encoder: where a product is in the history, it reads beyond the end of a table."""
    model = onnx.load(path / "user_encoder.onnx")
    graph = model.graph
    gather = next(node for node in graph.node if "product_table" in node.input)
    at = list(graph.node).index(gather)
    before = [
        helper.make_node("Equal", ["product_index", "poison"], ["is_poison"]),
        helper.make_node("Where", ["is_poison", "beyond", "product_index"], ["thrown_index"]),
    ]
    gather.input[1] = "thrown_index"
    for place, node in enumerate(before):
        graph.node.insert(at + place, node)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(product_index, np.int64), "poison"),
            numpy_helper.from_array(np.array(1 << 40, np.int64), "beyond"),
        ]
    )
    onnx.checker.check_model(model)
    onnx.save(model, path / "user_encoder.onnx")
    manifest = Manifest.read(path)
    (path / MANIFEST_FILE).unlink()
    dataclasses.replace(manifest, files=hash_files(path)).write(path)
