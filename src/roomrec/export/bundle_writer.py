"""A trained pair of encoders and its dataset to a bundle."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from roomrec.bundle.manifest import (
    INCREMENTAL_USER_ENCODER_FILE,
    ITEM_ENCODER_FILE,
    ITEM_VECTORS_FILE,
    PARITY_FILE,
    POPULARITY_FILE,
    USER_ENCODER_FILE,
    VOCABULARY_FILE,
    Manifest,
    hash_files,
)
from roomrec.bundle.reader import POPULARITY_SCHEMA, item_vectors_schema
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.export.incremental import (
    INCREMENTAL_TOLERANCE,
    can_be_incremental,
    export_incremental_user_encoder,
    measure_incremental_parity,
)
from roomrec.export.onnx import (
    DEFAULT_TOLERANCE,
    Arrays,
    export_item_encoder,
    export_user_encoder,
    measure_parity,
    open_graph,
    run_graph,
)
from roomrec.export.recorded import items_of, recorded_histories, recorded_items
from roomrec.features.as_of import PRODUCT_KIND
from roomrec.ids import FIRST_INDEX
from roomrec.models.product_catalogue import with_looked_up_products
from roomrec.sequences.dataset import TRAIN_SPLIT, ProcessedDataset

_ITEMS_AT_ONCE = 8192
_LOG = logging.getLogger(__name__)


def write_bundle(
    folder: Path,
    *,
    model_kind: str,
    user_encoder: nn.Module,
    item_encoder: nn.Module,
    dataset: ProcessedDataset,
    max_sequence_length: int,
    training_config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    code_revision: str = "unknown",
    tolerance: float = DEFAULT_TOLERANCE,
) -> Manifest:
    """Export both encoders, check them against torch, and write everything serving needs.

    Args:
        folder: Where the bundle goes; what is there is replaced.
        model_kind: Name of the model, as in ``model=...``.
        user_encoder: Called with ``USER_INPUTS``.
        item_encoder: Called with ``ITEM_INPUTS``.
        dataset: The dataset the model was trained on.
        max_sequence_length: L, the most events the user encoder takes.
        training_config: The composed config of the training job.
        metrics: What was measured, name -> value.
        code_revision: Git revision.
        tolerance: Largest difference between torch and ONNX allowed.

    Returns:
        The manifest; it is written last, so an interrupted export leaves no bundle.

    Raises:
        ExportError: If an encoder cannot be traced, or ONNX and torch differ by more than the tolerance.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    looked_up = with_looked_up_products(user_encoder)
    export_user_encoder(looked_up, folder / USER_ENCODER_FILE, max_sequence_length=max_sequence_length)
    export_item_encoder(item_encoder, folder / ITEM_ENCODER_FILE, spec=dataset.spec)
    histories = recorded_histories(dataset, max_sequence_length=max_sequence_length)
    users = measure_parity(user_encoder, folder / USER_ENCODER_FILE, histories, tolerance=tolerance)
    items = measure_parity(item_encoder, folder / ITEM_ENCODER_FILE, recorded_items(dataset), tolerance=tolerance)
    parity = {
        "max_abs_diff": max(users.max_abs_diff, items.max_abs_diff),
        "tolerance": tolerance,
        "user_encoder": users._asdict(),
        "item_encoder": items._asdict(),
        "incremental_user_encoder": write_increment(looked_up, folder, histories),
    }
    (folder / PARITY_FILE).write_text(json.dumps(parity, indent=2) + "\n", encoding="utf-8")
    vectors = item_vectors(dataset, folder / ITEM_ENCODER_FILE)
    embedding_dim = vectors.schema.field("vector").type.list_size
    pq.write_table(vectors, folder / ITEM_VECTORS_FILE)
    pq.write_table(popularity(dataset), folder / POPULARITY_FILE)
    pq.write_table(dataset.vocabulary.to_table(), folder / VOCABULARY_FILE)
    manifest = Manifest(
        model_kind=model_kind,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        feature_spec=dataset.spec,
        vocabulary_fingerprint=dataset.vocabulary_fingerprint,
        max_sequence_length=max_sequence_length,
        embedding_dim=embedding_dim,
        files=hash_files(folder),
        training_config=dict(training_config),
        metrics=dict(metrics) | {"parity_max_abs_diff": parity["max_abs_diff"]},
        code_revision=code_revision,
        event_type_codes=dict(EVENT_TYPE_CODES),
    )
    manifest.write(folder)
    return manifest


def write_increment(user_encoder: nn.Module, folder: Path, recorded: Sequence[Arrays]) -> dict[str, Any] | None:
    """Write the increment of a user encoder beside its whole graph, if it has one and that is exact.

    Args:
        user_encoder: As it was exported whole.
        folder: The bundle, with the graph of the user encoder.
        recorded: Histories to replay.

    Returns:
        What ``parity.json`` says of it, None where the encoder has no increment. ``written`` is false where a vector
        differs by more than ``INCREMENTAL_TOLERANCE``: serving then encodes whole histories.

    Raises:
        ExportError: If it cannot be traced, or gives a vector that is not finite.
    """
    if not can_be_incremental(user_encoder):
        return None
    file = folder / INCREMENTAL_USER_ENCODER_FILE
    export_incremental_user_encoder(user_encoder, file)
    parity = measure_incremental_parity(user_encoder, file, whole=folder / USER_ENCODER_FILE, recorded=recorded)
    written = max(parity.max_abs_diff, parity.max_abs_diff_of_graphs) <= INCREMENTAL_TOLERANCE
    if not written:
        file.unlink()
        _LOG.warning("%s is left out of the bundle, it is not exact: %s", file.name, parity)
    return parity._asdict() | {"tolerance": INCREMENTAL_TOLERANCE, "written": written}


def item_vectors(dataset: ProcessedDataset, item_encoder: Path) -> pa.Table:
    """Return the products of a dataset with the vectors that serving's own item encoder gives them.

    Args:
        dataset: Its products, cold ones included.
        item_encoder: The exported graph.

    Returns:
        A table in ``item_vectors_schema``, ordered by item.
    """
    session = open_graph(item_encoder)
    products = np.flatnonzero(dataset.items.kind == PRODUCT_KIND)
    none = np.empty((0, session.get_outputs()[0].shape[1]), dtype=np.float32)
    chunks = (products[first : first + _ITEMS_AT_ONCE] for first in range(0, len(products), _ITEMS_AT_ONCE))
    vectors = np.concatenate([none, *(run_graph(session, items_of(dataset, chunk)) for chunk in chunks)])
    rows = dataset.item_rows.take(pa.array(products))
    columns = {name: rows[name].combine_chunks() for name in ("category", "title", "price_cents")}
    return pa.table(
        {
            "kind": pa.array(["product"] * len(products), pa.string()),
            "id": rows["product_id"].combine_chunks(),
            **columns,
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        }
    ).cast(item_vectors_schema(vectors.shape[1]))


def popularity(dataset: ProcessedDataset) -> pa.Table:
    """Count what was chosen in the train split, by streamer, product and category.

    Args:
        dataset: The dataset.

    Returns:
        A table in ``POPULARITY_SCHEMA``, highest count first within a kind, then by id. What was never chosen is left
        out.
    """
    histories = dataset.histories
    chosen = np.flatnonzero(histories.target & (histories.split == TRAIN_SPLIT) & (histories.item_index >= FIRST_INDEX))
    indices: dict[str, npt.NDArray[np.integer]] = {
        "streamer": histories.streamer_index[chosen],
        "product": histories.product_index[chosen],
        "category": dataset.items.category[histories.item_index[chosen]],
    }
    parts = []
    for kind, index in indices.items():
        counts = np.bincount(index, minlength=dataset.vocabulary.size(kind))[FIRST_INDEX:]
        known = np.flatnonzero(counts)
        table = pa.table(
            {
                "kind": pa.array([kind] * len(known), pa.string()),
                "id": dataset.vocabulary.ids(kind).take(pa.array(known)).cast(pa.string()),
                "count": pa.array(counts[known], pa.int64()),
            },
            schema=POPULARITY_SCHEMA,
        )
        parts.append(table.sort_by([("count", "descending"), ("id", "ascending")]))
    return pa.concat_tables(parts)
