"""What a bundle says about itself."""

import json

import pytest

from roomrec.bundle.manifest import Manifest, file_sha256, hash_files
from roomrec.errors import BundleError
from roomrec.features.spec import FeatureSpec


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        model_kind="sasrec",
        created_at="2026-01-31T10:15:00+00:00",
        feature_spec=FeatureSpec(num_users=4, num_streamers=5, num_products=6),
        vocabulary_fingerprint="abc",
        max_sequence_length=50,
        embedding_dim=64,
        files={"user_encoder.onnx": "0"},
        training_config={"model": {"dim": 64}},
        metrics={"ndcg@10": 0.25},
        code_revision="unknown",
        event_type_codes={"enter": 2},
    )


def test_reading_brings_back_what_was_written(manifest, tmp_path):
    assert manifest.write(tmp_path).name == "manifest.json"
    assert Manifest.read(tmp_path) == manifest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2, this code reads 1"),
        ({"schema_version": None}, "schema_version None"),
        ({"surprise": 1}, "surprise"),
        ({"feature_spec": {"num_users": -1}}, "num_users|num_streamers"),
        ({"feature_spec": []}, "feature spec|must be a mapping"),
        ({"files": ["user_encoder.onnx"]}, "files"),
        ({"max_sequence_length": "50"}, "max_sequence_length"),
        ({"event_type_codes": {"enter": None}}, "event_type_codes"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(manifest, tmp_path, change, message):
    file = manifest.write(tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BundleError, match=message):
        Manifest.read(tmp_path)


def test_a_manifest_from_before_there_were_attributes_still_reads(manifest, tmp_path):
    file = manifest.write(tmp_path)
    fields = json.loads(file.read_text())
    for name in ("num_attributes", "max_attributes"):
        del fields["feature_spec"][name]
    file.write_text(json.dumps(fields))
    assert Manifest.read(tmp_path) == manifest


def test_a_missing_field_is_named(manifest, tmp_path):
    file = manifest.write(tmp_path)
    fields = json.loads(file.read_text())
    del fields["embedding_dim"]
    file.write_text(json.dumps(fields))
    with pytest.raises(BundleError, match="embedding_dim"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(("text", "message"), [("{", "cannot be read as JSON"), ("[]", "expected a JSON object")])
def test_what_is_no_json_object_is_refused(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=message):
        Manifest.read(tmp_path)


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"holds no manifest\.json"):
        Manifest.read(tmp_path)


def test_hashes_are_of_bytes_and_leave_the_manifest_out(tmp_path):
    (tmp_path / "b").write_bytes(b"abc")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "manifest.json").write_text("{}")
    assert list(hash_files(tmp_path)) == ["a", "b"]
    assert file_sha256(tmp_path / "b") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
