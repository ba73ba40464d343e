"""A bundle as serving opens it: every byte is checked before anything is believed."""

from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from roomrec.bundle.manifest import (
    INCREMENTAL_USER_ENCODER_FILE,
    ITEM_ENCODER_FILE,
    ITEM_VECTORS_FILE,
    POPULARITY_FILE,
    REQUIRED_FILES,
    USER_ENCODER_FILE,
    VOCABULARY_FILE,
    Manifest,
    file_sha256,
)
from roomrec.errors import BundleError, VocabularyError
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.features.pieces import Pause, no_pause
from roomrec.features.spec import FeatureSpec
from roomrec.features.vocabulary import Vocabulary

POPULARITY_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
"""``popularity.parquet``: kind is ``streamer``, ``product`` or ``category``; highest count first within a kind."""


def item_vectors_schema(embedding_dim: int) -> pa.Schema:
    """Return the schema of ``item_vectors.parquet`` for vectors of ``embedding_dim`` numbers."""
    return pa.schema(
        [
            pa.field("kind", pa.string(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("category", pa.string()),
            pa.field("title", pa.string()),
            pa.field("price_cents", pa.int64()),
            pa.field("vector", pa.list_(pa.float32(), embedding_dim), nullable=False),
        ]
    )


class Bundle:
    """A model and everything needed to serve it.

    Attributes:
        path: The bundle's folder.
        manifest: What the bundle says about itself.
        vocabulary: Ids the encoders know.
        item_vectors: Known products in ``item_vectors_schema``.
        popularity: Counts of the train split in ``POPULARITY_SCHEMA``.

    Example::

        bundle = Bundle.open(Path("data/registry/versions/20260131T101500-1a2b3c4d"))
        session = onnxruntime.InferenceSession(bundle.user_encoder_path)
    """

    def __init__(
        self, *, path: Path, manifest: Manifest, vocabulary: Vocabulary, item_vectors: pa.Table, popularity: pa.Table
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.vocabulary = vocabulary
        self.item_vectors = item_vectors
        self.popularity = popularity

    @classmethod
    def open(cls, path: Path, *, pause: Pause = no_pause) -> Self:
        """Open a bundle after checking all of it.

        Args:
            path: Its folder.
            pause: Called between pieces of the work.

        Raises:
            BundleError: As ``verify_bundle``; or if a table cannot be read, has other columns than this code expects,
                or the vocabulary is not the one the encoders were trained with.
        """
        manifest = verify_bundle(path)
        try:
            vocabulary = Vocabulary.from_table(pq.read_table(path / VOCABULARY_FILE), pause=pause)
        except (pa.ArrowException, VocabularyError) as error:
            raise BundleError(f"{path / VOCABULARY_FILE} cannot be read: {error}") from error
        if vocabulary.fingerprint() != manifest.vocabulary_fingerprint:
            raise BundleError(
                f"{path / VOCABULARY_FILE} has fingerprint {vocabulary.fingerprint()}, the manifest says "
                f"{manifest.vocabulary_fingerprint}: the encoders were trained with another vocabulary"
            )
        return cls(
            path=path,
            manifest=manifest,
            vocabulary=vocabulary,
            item_vectors=_read_table(path / ITEM_VECTORS_FILE, item_vectors_schema(manifest.embedding_dim)),
            popularity=_read_table(path / POPULARITY_FILE, POPULARITY_SCHEMA),
        )

    @property
    def spec(self) -> FeatureSpec:
        """The feature spec the encoders were built with."""
        return self.manifest.feature_spec

    @property
    def user_encoder_path(self) -> Path:
        """The ONNX graph of the user encoder."""
        return self.path / USER_ENCODER_FILE

    @property
    def incremental_user_encoder_path(self) -> Path | None:
        """The ONNX graph that encodes a viewer event by event; None where the bundle has none."""
        listed = INCREMENTAL_USER_ENCODER_FILE in self.manifest.files
        return self.path / INCREMENTAL_USER_ENCODER_FILE if listed else None

    @property
    def item_encoder_path(self) -> Path:
        """The ONNX graph of the item encoder."""
        return self.path / ITEM_ENCODER_FILE

    def item_vector_matrix(self) -> npt.NDArray[np.float32]:
        """Return the vectors of ``item_vectors`` in its order, ``[num_products, D]`` float32."""
        column = self.item_vectors["vector"].combine_chunks()
        flat = np.asarray(column.flatten(), dtype=np.float32)
        return flat.reshape(len(self.item_vectors), self.manifest.embedding_dim)


def verify_bundle(path: Path) -> Manifest:
    """Check that a bundle is complete, unaltered and understood by this code.

    Args:
        path: Its folder.

    Returns:
        The manifest.

    Raises:
        BundleError: If the manifest is missing or of another schema, a file is missing or its bytes have changed, a
            file's name leads out of the folder, or an event type has another code than in this code. The message names
            the file and what differs.
    """
    manifest = Manifest.read(path)
    if missing := [name for name in REQUIRED_FILES if name not in manifest.files]:
        raise BundleError(f"the manifest of {path} does not list {missing}")
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise BundleError(f"the manifest of {path} lists {name!r}, which is not a plain file name")
        file = path / name
        if not file.is_file():
            raise BundleError(f"{file} is missing, though the manifest lists it")
        if (found := file_sha256(file)) != expected:
            raise BundleError(f"{file} has sha256 {found}, the manifest says {expected}: it was altered or cut short")
    for name, code in manifest.event_type_codes.items():
        if EVENT_TYPE_CODES.get(name) != code:
            here = EVENT_TYPE_CODES.get(name)
            raise BundleError(f"{path} was trained with code {code} for event type {name!r}, this code has {here}")
    return manifest


def _read_table(file: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise BundleError(f"{file} cannot be read: {error}") from error
    if not table.schema.equals(schema):
        raise BundleError(f"{file} has the schema {table.schema.to_string()}, expected {schema.to_string()}")
    return table
