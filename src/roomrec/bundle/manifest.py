"""What a bundle says about itself: schema, fingerprints, and where it comes from."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from roomrec.errors import BundleError, FeatureError
from roomrec.features.spec import FeatureSpec

SCHEMA_VERSION: Final = 1
"""Raised whenever an older reader could misunderstand a newer bundle."""

MANIFEST_FILE: Final = "manifest.json"
"""Written last, so a folder without it is not a bundle."""

USER_ENCODER_FILE: Final = "user_encoder.onnx"
"""history -> ``user_vector`` ``[B, D]``."""

INCREMENTAL_USER_ENCODER_FILE: Final = "incremental_user_encoder.onnx"
"""New events and what was kept of older ones -> ``user_vector`` ``[1, D]``, what to keep; some models have none."""

ITEM_ENCODER_FILE: Final = "item_encoder.onnx"
"""item features -> ``item_vector`` ``[V, D]``."""

VOCABULARY_FILE: Final = "vocabulary.parquet"
"""Ids and their dense indices."""

ITEM_VECTORS_FILE: Final = "item_vectors.parquet"
"""Products known in training, with their vectors. Rooms are encoded when they start."""

POPULARITY_FILE: Final = "popularity.parquet"
"""Counts of the train split: what to show when nothing is known of a viewer."""

PARITY_FILE: Final = "parity.json"
"""How far the ONNX graphs are from the torch modules they were traced from."""

REQUIRED_FILES: Final = (
    USER_ENCODER_FILE,
    ITEM_ENCODER_FILE,
    VOCABULARY_FILE,
    ITEM_VECTORS_FILE,
    POPULARITY_FILE,
    PARITY_FILE,
)
"""Files without which a folder is no bundle, besides the manifest."""

_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The first file a reader reads.

    Attributes:
        model_kind: Name of the model, as in ``model=...`` of the training job.
        created_at: When the bundle was written, ISO 8601 in UTC.
        feature_spec: Cardinalities and lengths the encoders were built with.
        vocabulary_fingerprint: ``Vocabulary.fingerprint()`` of ``vocabulary.parquet``.
        max_sequence_length: L, the most events the user encoder takes.
        embedding_dim: D of both encoders.
        files: File name -> sha256 of its bytes, for every file but the manifest.
        training_config: The composed config of the training job.
        metrics: What evaluation or validation measured, name -> value.
        code_revision: Git revision of the code that wrote the bundle, or ``unknown``.
        event_type_codes: Event type -> the code the user encoder was trained with.
        schema_version: ``SCHEMA_VERSION`` of the writer.
    """

    model_kind: str
    created_at: str
    feature_spec: FeatureSpec
    vocabulary_fingerprint: str
    max_sequence_length: int
    embedding_dim: int
    files: dict[str, str]
    training_config: dict[str, Any]
    metrics: dict[str, Any]
    code_revision: str
    event_type_codes: dict[str, int]
    schema_version: int = SCHEMA_VERSION

    def write(self, folder: Path) -> Path:
        """Write ``manifest.json`` into a folder and return the file's path."""
        file = folder / MANIFEST_FILE
        file.write_text(json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        return file

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``manifest.json`` of a folder.

        Raises:
            BundleError: If there is none, it is no JSON object, has another schema version, lacks a field, or holds one
                of another type.
        """
        file = folder / MANIFEST_FILE
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BundleError(f"{folder} holds no {MANIFEST_FILE}: it is no bundle, or was not finished") from None
        except (OSError, ValueError) as error:
            raise BundleError(f"{file} cannot be read as JSON: {error}") from error
        if not isinstance(fields, dict):
            raise BundleError(f"{file} holds {type(fields).__name__}, expected a JSON object")
        if fields.get("schema_version") != SCHEMA_VERSION:
            raise BundleError(
                f"{file} has schema_version {fields.get('schema_version')!r}, this code reads {SCHEMA_VERSION}"
            )
        try:
            manifest = cls(**fields | {"feature_spec": FeatureSpec.from_dict(fields["feature_spec"])})
            msgspec.convert(fields, cls)  # looks at types, which the constructor does not
            return manifest
        except (KeyError, TypeError, FeatureError, msgspec.ValidationError) as error:
            raise BundleError(f"{file} does not fit schema_version {SCHEMA_VERSION}: {error}") from error


def file_sha256(file: Path) -> str:
    """Return the sha256 of a file's bytes in hex, reading a megabyte at a time."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return file name -> sha256 for every file of a folder except the manifest, by name."""
    return {file.name: file_sha256(file) for file in sorted(folder.iterdir()) if file.name != MANIFEST_FILE}
