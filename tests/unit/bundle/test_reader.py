"""A bundle is believed only after every byte was checked."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from roomrec.bundle import Bundle, verify_bundle
from roomrec.bundle.manifest import REQUIRED_FILES, file_sha256
from roomrec.errors import BundleError
from roomrec.features.vocabulary import Vocabulary
from tests.bundles import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path):
    vocabulary = Vocabulary({"user": ["ann"], "streamer": ["mia"], "product": ["silk", "wool"]})
    popularity = [("streamer", "mia", 9), ("product", "wool", 4)]
    return write_tiny_bundle(tmp_path / "bundle", vocabulary, popularity=popularity, embedding_dim=4)


def change_manifest(bundle, **changes):
    file = bundle / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def resign(bundle, name):
    """Write the file's hash of now into the manifest."""
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    change_manifest(bundle, files=files | {name: file_sha256(bundle / name)})


def test_an_intact_bundle_opens(bundle):
    opened = Bundle.open(bundle)
    assert opened.manifest.embedding_dim == 4
    assert opened.spec.num_products == 4
    assert opened.vocabulary.index("product", "wool") == 3
    assert opened.item_vectors["id"].to_pylist() == ["silk", "wool"]
    assert opened.popularity.to_pylist()[0] == {"kind": "streamer", "id": "mia", "count": 9}
    assert opened.user_encoder_path.is_file()
    assert opened.item_encoder_path.is_file()
    matrix = opened.item_vector_matrix()
    assert matrix.dtype == np.float32
    assert matrix.tolist() == opened.item_vectors["vector"].to_pylist()


def test_a_bundle_from_before_there_was_an_increment_opens(bundle):
    assert "incremental_user_encoder.onnx" not in json.loads((bundle / "manifest.json").read_text())["files"]
    assert Bundle.open(bundle).incremental_user_encoder_path is None
    (bundle / "incremental_user_encoder.onnx").write_bytes(b"not listed, so not read")
    assert Bundle.open(bundle).incremental_user_encoder_path is None


def test_an_increment_is_checked_like_every_file(bundle):
    file = bundle / "incremental_user_encoder.onnx"
    file.write_bytes(b"graph")
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    change_manifest(bundle, files=files | {file.name: file_sha256(file)})
    assert Bundle.open(bundle).incremental_user_encoder_path == file
    file.write_bytes(b"grape")
    with pytest.raises(BundleError, match=r"incremental_user_encoder\.onnx has sha256 [0-9a-f]+, the manifest says"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_one_changed_byte_anywhere_is_refused(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} has sha256 [0-9a-f]+, the manifest says"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        Bundle.open(bundle)


def test_a_manifest_that_lists_too_little_is_refused(bundle):
    change_manifest(bundle, files={})
    with pytest.raises(BundleError, match=r"does not list .*user_encoder\.onnx"):
        Bundle.open(bundle)


def test_file_names_stay_in_the_folder(bundle):
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    change_manifest(bundle, files=files | {"../secret": "0"})
    with pytest.raises(BundleError, match="not a plain file name"):
        Bundle.open(bundle)


def test_another_vocabulary_is_refused_even_when_its_hash_fits(bundle):
    other = Vocabulary({"user": ["ann"], "streamer": ["mia"], "product": ["wool", "silk"]})
    pq.write_table(other.to_table(), bundle / "vocabulary.parquet")
    resign(bundle, "vocabulary.parquet")
    with pytest.raises(BundleError, match=r"vocabulary\.parquet has fingerprint"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["item_vectors.parquet", "popularity.parquet"])
def test_a_table_with_other_columns_is_refused(bundle, name):
    pq.write_table(pa.table({"surprise": [1]}), bundle / name)
    resign(bundle, name)
    with pytest.raises(BundleError, match=f"(?s){name} has the schema surprise"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["vocabulary.parquet", "popularity.parquet"])
def test_a_table_that_is_no_parquet_is_refused(bundle, name):
    (bundle / name).write_text("no")
    resign(bundle, name)
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        Bundle.open(bundle)


def test_event_codes_must_mean_the_same(bundle):
    change_manifest(bundle, event_type_codes={"enter": 9})
    with pytest.raises(BundleError, match="code 9 for event type 'enter', this code has 2"):
        verify_bundle(bundle)
