"""Export of a run, from the command's config to the registry."""

import json
import shutil

import numpy as np
import pytest

from roomrec.bundle import Bundle, Registry
from roomrec.errors import ConfigurationError, ExportError
from roomrec.export.onnx import open_graph, run_graph
from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.vocabulary import Vocabulary
from tests.bundles import write_tiny_bundle
from tests.runs import config_of, write_run
from training import export


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, live_dataset):
    folder = tmp_path_factory.mktemp("data")
    write_run(folder, "live", live_dataset)
    report = folder / "reports" / "live" / "metrics.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"summary": {"ndcg@10": 0.5}}))
    return folder


@pytest.fixture(scope="module")
def first(data_dir):
    return export.run(config_of("export", run="live", data_dir=data_dir))


def test_the_first_version_becomes_champion(data_dir, first):
    registry = Registry(data_dir / "registry")
    assert first.channel == "champion"
    assert registry.channel("champion") == first.version
    assert registry.channel("challenger") is None
    assert first.summary["parity_max_abs_diff"] < 1e-5
    assert json.loads(json.dumps(first.summary)) == first.summary


def test_what_was_published_is_a_bundle(first):
    bundle = Bundle.open(first.folder)
    assert bundle.manifest.model_kind == "sasrec"
    assert bundle.manifest.max_sequence_length == 12
    assert bundle.manifest.embedding_dim == 16
    assert bundle.manifest.metrics["ndcg@10"] == 0.5
    assert bundle.manifest.training_config["model"]["num_blocks"] == 1
    assert bundle.popularity["kind"].unique().to_pylist() == ["streamer", "category"]
    parity = json.loads((first.folder / "parity.json").read_text())
    assert parity["max_abs_diff"] == first.summary["parity_max_abs_diff"]
    assert parity["user_encoder"]["num_vectors"] > 256
    increment = parity["incremental_user_encoder"]
    assert increment["written"]
    assert max(increment["max_abs_diff"], increment["max_abs_diff_of_graphs"]) <= increment["tolerance"] == 1e-5
    assert increment["num_vectors"] > 100
    assert bundle.incremental_user_encoder_path == first.folder / "incremental_user_encoder.onnx"
    assert len(bundle.manifest.files["incremental_user_encoder.onnx"]) == 64


def test_a_room_that_starts_now_is_encoded_by_the_bundle_alone(first):
    bundle = Bundle.open(first.folder)
    new_room = ItemFacts("nobody-knows", [], "beauty", "Opening night", None)
    known_room = ItemFacts("s1", [], "tools", None, None)
    inputs = item_inputs([new_room, known_room], vocabulary=bundle.vocabulary, spec=bundle.spec)
    vectors = run_graph(open_graph(bundle.item_encoder_path), inputs)
    assert vectors.shape == (2, 16)
    assert np.isfinite(vectors).all()
    assert np.abs(vectors[0]).max() > 0  # its category says something


@pytest.mark.parametrize(
    ("promote", "there_is_a_champion", "channel"),
    [
        ("auto", False, "champion"),
        ("auto", True, "challenger"),
        ("champion", True, "champion"),
        ("challenger", False, "challenger"),
        ("none", False, None),
    ],
)
def test_a_later_version_challenges_unless_told_otherwise(tmp_path, promote, there_is_a_champion, channel):
    registry = Registry(tmp_path / "registry")
    if there_is_a_champion:
        registry.promote(registry.publish(write_tiny_bundle(tmp_path / "bundle", Vocabulary({}))))
    assert export.choose_channel(promote, registry) == channel


def test_beyond_tolerance_nothing_is_published(data_dir, tmp_path):
    registry = tmp_path / "registry"
    with pytest.raises(ExportError, match=r"differs from torch by .*allowed is 0"):
        export.run(config_of("export", run="live", data_dir=data_dir, registry=registry, tolerance=0))
    assert not registry.exists()


def test_a_wrong_channel_is_answered_at_once(data_dir):
    with pytest.raises(ConfigurationError, match="promote is 'master': choose one of champion, challenger, none, auto"):
        export.run(config_of("export", run="live", data_dir=data_dir, promote="master"))


def test_a_run_without_best_checkpoint_says_so(data_dir, tmp_path):
    shutil.copytree(data_dir / "runs" / "live", tmp_path / "broken", ignore=shutil.ignore_patterns("*.ckpt"))
    with pytest.raises(ConfigurationError, match=r"best\.ckpt does not exist"):
        export.run(config_of("export", run=tmp_path / "broken", data_dir=data_dir))
