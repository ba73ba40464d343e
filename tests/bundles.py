"""A bundle whose answers are known beforehand, written without training and without torch."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from roomrec.bundle.manifest import Manifest, hash_files
from roomrec.bundle.reader import POPULARITY_SCHEMA, item_vectors_schema
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import HISTORY_INPUTS, ITEM_INPUTS, FeatureSpec
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX


def write_tiny_bundle(
    path: Path,
    vocabulary: Vocabulary,
    *,
    spec: FeatureSpec | None = None,
    products: Sequence[tuple[str, ItemFacts]] | None = None,
    popularity: Sequence[tuple[str, str, int]] = (),
    embedding_dim: int = 32,
    max_sequence_length: int = 20,
    seed: int = 1,
    created_at: str = "2026-01-31T10:15:00+00:00",
    model_kind: str = "tiny",
) -> Path:
    """Write a bundle in which a viewer likes the streamers, products (and their likes) of the history.

    The user vector is the mean over events of ``streamer + product`` embeddings, an item's vector is its streamer's
    embedding + the mean of its products' + half of its category's. Embeddings are unit vectors, nearly orthogonal; PAD
    and OOV are zero. So a room of a streamer in the history beats a room of any other, and an empty history, like an
    item nobody knows, gets the zero vector.

    Args:
        path: Folder to write; must not exist.
        vocabulary: Ids the encoders know.
        spec: Cardinalities; by default those of the vocabulary, with categories if it has any.
        products: (product id, facts) of the known products; by default every product of the vocabulary, bare.
        popularity: (kind, id, count) rows, highest count first.
        embedding_dim: D.
        max_sequence_length: L.
        seed: Another seed is another model.
        created_at: Decides the version's name in a registry.
        model_kind: Stands in the manifest.
    """
    path.mkdir(parents=True)
    num_categories = vocabulary.size("category")
    spec = spec or FeatureSpec(
        num_users=vocabulary.size("user"),
        num_streamers=vocabulary.size("streamer"),
        num_products=vocabulary.size("product"),
        num_categories=num_categories if num_categories > FIRST_INDEX else 0,
    )
    rng = np.random.default_rng(seed)
    tables = {
        name: _unit_rows(rng, rows, embedding_dim)
        for name, rows in (
            ("streamer", spec.num_streamers),
            ("product", spec.num_products),
            ("category", spec.num_categories),
        )
    }
    onnx.save(_user_encoder(tables, embedding_dim), path / "user_encoder.onnx")
    onnx.save(_item_encoder(tables, spec, embedding_dim), path / "item_encoder.onnx")
    pq.write_table(vocabulary.to_table(), path / "vocabulary.parquet")
    if products is None:
        products = [(name, ItemFacts(None, [name], None, None, None)) for name in vocabulary.ids("product").to_pylist()]
    inputs = item_inputs([facts for _, facts in products], vocabulary=vocabulary, spec=spec)
    bag = inputs["product"]
    vectors = tables["product"][bag].sum(axis=1) / np.maximum((bag > 0).sum(axis=1, keepdims=True), 1)
    if spec.num_categories:
        vectors = vectors + 0.5 * tables["category"][inputs["category"]]
    pq.write_table(
        pa.table(
            {
                "kind": ["product"] * len(products),
                "id": [name for name, _ in products],
                "category": [facts.category for _, facts in products],
                "title": [facts.title for _, facts in products],
                "price_cents": [facts.price_cents for _, facts in products],
                "vector": pa.FixedSizeListArray.from_arrays(
                    pa.array(vectors.astype(np.float32).ravel(), pa.float32()), embedding_dim
                ),
            },
            schema=item_vectors_schema(embedding_dim),
        ),
        path / "item_vectors.parquet",
    )
    columns = list(zip(*popularity, strict=True)) or [[], [], []]
    pq.write_table(
        pa.table(dict(zip(("kind", "id", "count"), columns, strict=True)), schema=POPULARITY_SCHEMA),
        path / "popularity.parquet",
    )
    (path / "parity.json").write_text(json.dumps({"max_abs_diff": 0.0}))
    Manifest(
        model_kind=model_kind,
        created_at=created_at,
        feature_spec=spec,
        vocabulary_fingerprint=vocabulary.fingerprint(),
        max_sequence_length=max_sequence_length,
        embedding_dim=embedding_dim,
        files=hash_files(path),
        training_config={},
        metrics={"seed": seed},
        code_revision="unknown",
        event_type_codes=dict(EVENT_TYPE_CODES),
    ).write(path)
    return path


def _unit_rows(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    table = rng.standard_normal((rows, dim)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    table[:FIRST_INDEX] = 0.0
    return table


def _user_encoder(tables: dict[str, np.ndarray], dim: int) -> onnx.ModelProto:
    constants = {
        "streamer_table": tables["streamer"],
        "product_table": tables["product"],
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.float32),
        "last": np.array([-1], np.int64),
        "events": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["streamer_table", "streamer_index"], ["streamers"]),
        helper.make_node("Gather", ["product_table", "product_index"], ["products"]),
        helper.make_node("Add", ["streamers", "products"], ["tokens"]),
        helper.make_node("Greater", ["event_type", "zero"], ["is_real"]),
        helper.make_node("Cast", ["is_real"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["real_tokens"]),
        helper.make_node("ReduceSum", ["real_tokens", "events"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "events"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["at_least_one"]),
        helper.make_node("Div", ["total", "at_least_one"], ["user_vector"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in HISTORY_INPUTS]
    output = helper.make_tensor_value_info("user_vector", TensorProto.FLOAT, ["batch", dim])
    return _model("user_encoder", nodes, inputs, output, constants)


def _item_encoder(tables: dict[str, np.ndarray], spec: FeatureSpec, dim: int) -> onnx.ModelProto:
    constants = {
        "streamer_table": tables["streamer"],
        "product_table": tables["product"],
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "bag": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["streamer_table", "streamer"], ["streamers"]),
        helper.make_node("Gather", ["product_table", "product"], ["products"]),
        helper.make_node("Greater", ["product", "zero"], ["is_real"]),
        helper.make_node("Cast", ["is_real"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["products", "bag"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "bag"], ["count"], keepdims=1),
        helper.make_node("Max", ["count", "one"], ["at_least_one"]),
        helper.make_node("Div", ["total", "at_least_one"], ["mean_product"]),
    ]
    names = ["streamer", "product"]
    known = "streamers_and_products" if spec.num_categories else "item_vector"
    nodes.append(helper.make_node("Add", ["streamers", "mean_product"], [known]))
    if spec.num_categories:
        names.append("category")
        constants["category_table"] = tables["category"]
        nodes += [
            helper.make_node("Gather", ["category_table", "category"], ["categories"]),
            helper.make_node("Mul", ["categories", "half"], ["half_categories"]),
            helper.make_node("Add", [known, "half_categories"], ["item_vector"]),
        ]
    shapes = {"product": ["items", spec.max_products]}
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shapes.get(name, ["items"]))
        for name in ITEM_INPUTS
        if name in names
    ]
    output = helper.make_tensor_value_info("item_vector", TensorProto.FLOAT, ["items", dim])
    return _model("item_encoder", nodes, inputs, output, constants)


def _model(name: str, nodes: list, inputs: list, output: object, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    used = {part for node in nodes for part in node.input}
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items() if key in used]
    graph = helper.make_graph(nodes, name, inputs, [output], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
