"""A shop of any size and a model of a given shape, its weights as they begin: speed does not depend on learning."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from roomrec.bundle import Registry
from roomrec.bundle.manifest import Manifest, hash_files
from roomrec.bundle.reader import POPULARITY_SCHEMA, item_vectors_schema
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.export.incremental import export_incremental_user_encoder
from roomrec.export.onnx import export_item_encoder, export_user_encoder, open_graph, run_graph
from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary
from roomrec.models.product_catalogue import with_looked_up_products
from roomrec.models.sasrec import SASRec
from roomrec.models.transformer_block import TransformerBlock

NUM_STREAMERS: Final = 5_000
NUM_CATEGORIES: Final = 50
_ITEMS_AT_ONCE: Final = 8_192
_OPENED_AT_MS: Final = 1_790_000_000_000


class Shape(NamedTuple):
    """Sizes of a model and of what is sold."""

    embedding_dim: int = 64
    max_sequence_length: int = 50
    num_blocks: int = 2
    num_products: int = 50_000


def write_registry(root: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Publish and promote one bundle of the given shape.

    Args:
        root: Where the registry and the bundle before it go.
        shape: Sizes.
        seed: Decides the weights.

    Returns:
        The registry's folder.
    """
    torch.manual_seed(seed)
    vocabulary = Vocabulary(
        {
            "streamer": [f"s{number}" for number in range(NUM_STREAMERS)],
            "product": [f"p{number}" for number in range(shape.num_products)],
            "category": [f"c{number}" for number in range(NUM_CATEGORIES)],
        }
    )
    spec = FeatureSpec(
        num_users=0,
        num_streamers=vocabulary.size("streamer"),
        num_products=vocabulary.size("product"),
        num_categories=vocabulary.size("category"),
    )
    model = SASRec(
        spec=spec,
        embedding_dim=shape.embedding_dim,
        max_sequence_length=shape.max_sequence_length,
        num_blocks=shape.num_blocks,
        block=partial(TransformerBlock, num_heads=2, hidden_dim=4 * shape.embedding_dim, norm_first=True),
        dropout_rate=0.0,
        id_dropout_rate=0.0,
    ).eval()
    folder = root / "bundle"
    folder.mkdir(parents=True)
    encoder = with_looked_up_products(model.user_encoder)
    export_user_encoder(encoder, folder / "user_encoder.onnx", max_sequence_length=shape.max_sequence_length)
    export_incremental_user_encoder(encoder, folder / "incremental_user_encoder.onnx")
    export_item_encoder(model.item_encoder, folder / "item_encoder.onnx", spec=spec)
    pq.write_table(vocabulary.to_table(), folder / "vocabulary.parquet")
    pq.write_table(_item_vectors(folder, vocabulary, spec, shape), folder / "item_vectors.parquet")
    counts = [("streamer", f"s{number}", NUM_STREAMERS - number) for number in range(NUM_STREAMERS)]
    columns = dict(zip(("kind", "id", "count"), zip(*counts, strict=True), strict=True))
    pq.write_table(pa.table(columns, schema=POPULARITY_SCHEMA), folder / "popularity.parquet")
    (folder / "parity.json").write_text(json.dumps({"max_abs_diff": 0.0}))
    Manifest(
        model_kind="sasrec",
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        feature_spec=spec,
        vocabulary_fingerprint=vocabulary.fingerprint(),
        max_sequence_length=shape.max_sequence_length,
        embedding_dim=shape.embedding_dim,
        files=hash_files(folder),
        training_config={},
        metrics={},
        code_revision="unknown",
        event_type_codes=dict(EVENT_TYPE_CODES),
    ).write(folder)
    registry = Registry(root / "registry")
    registry.promote(registry.publish(folder))
    return registry.root


def opening_events(
    *, num_rooms: int, products_per_room: int, num_products: int, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Start rooms and list products in them."""
    rng = np.random.default_rng(seed)
    for room in range(num_rooms):
        at_ms = _OPENED_AT_MS + room
        facts = {"category": f"c{room % NUM_CATEGORIES}", "title": f"Live show number {room}"}
        yield _event(
            f"start-{room}", "room_start", at_ms, room_id=f"r{room}", streamer_id=_streamer(room), context=facts
        )
        for product in rng.integers(num_products, size=products_per_room).tolist():
            yield _event(
                f"list-{room}-{product}",
                "product_listed",
                at_ms,
                room_id=f"r{room}",
                product_id=f"p{product}",
                amount_cents=990 + product,
                stock=40,
                context={"category": f"c{product % NUM_CATEGORIES}", "title": f"Product number {product}"},
            )


def viewers_events(
    *, num_viewers: int, events_per_viewer: int, num_rooms: int, num_products: int, seed: int = 1
) -> Iterator[dict[str, Any]]:
    """Let viewers have looked around: half of what they did is entering rooms, half is clicking on products."""
    rng = np.random.default_rng(seed)
    for viewer in range(num_viewers):
        rooms = rng.integers(num_rooms, size=events_per_viewer).tolist()
        products = rng.integers(num_products, size=events_per_viewer).tolist()
        for nth, (room, product) in enumerate(zip(rooms, products, strict=True)):
            where = {"room_id": f"r{room}", "streamer_id": _streamer(room)}
            kind, what = ("enter", {}) if nth % 2 else ("product_click", {"product_id": f"p{product}"})
            at_ms = _OPENED_AT_MS + 1_000_000 + 20_000 * nth
            yield _event(f"v{viewer}-{nth}", kind, at_ms, user_id=f"u{viewer}", **where, **what)


def _streamer(room: int) -> str:
    return f"s{room % NUM_STREAMERS}"


def _event(event_id: str, event_type: str, at_ms: int, **columns: Any) -> dict[str, Any]:
    return {"event_id": event_id, "event_type": event_type, "occurred_at_ms": at_ms} | columns


def _item_vectors(folder: Path, vocabulary: Vocabulary, spec: FeatureSpec, shape: Shape) -> pa.Table:
    session = open_graph(folder / "item_encoder.onnx")
    products = [
        ItemFacts(None, [f"p{number}"], f"c{number % NUM_CATEGORIES}", None, None)
        for number in range(shape.num_products)
    ]
    parts = [
        run_graph(session, item_inputs(products[first : first + _ITEMS_AT_ONCE], vocabulary=vocabulary, spec=spec))
        for first in range(0, len(products), _ITEMS_AT_ONCE)
    ]
    vectors = np.concatenate(parts)
    columns = {
        "kind": ["product"] * len(products),
        "id": [facts.product_ids[0] for facts in products],
        "category": [facts.category for facts in products],
        "title": [None] * len(products),
        "price_cents": [None] * len(products),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    return pa.table(columns, schema=item_vectors_schema(vectors.shape[1]))
