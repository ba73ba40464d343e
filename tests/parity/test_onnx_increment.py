"""The incremental user encoder as a graph: event by event the vectors of the whole encoder, in torch and in ONNX."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from roomrec.errors import ExportError
from roomrec.export import bundle_writer
from roomrec.export.incremental import (
    INCREMENTAL_TOLERANCE,
    can_be_incremental,
    export_incremental_user_encoder,
    measure_incremental_parity,
    replay,
)
from roomrec.export.onnx import export_user_encoder, open_graph, run_graph
from roomrec.features.spec import HISTORY_INPUTS, FeatureSpec
from roomrec.models.product_catalogue import with_looked_up_products
from roomrec.models.sasrec import SASRec
from roomrec.models.two_tower import TwoTower
from tests.blocks import BLOCKS, random_products

LENGTH = 12
SPEC = FeatureSpec(num_users=9, num_streamers=20, num_products=30, num_categories=5)


def encoder_of(block: str, *, spec: FeatureSpec = SPEC, max_sequence_length: int = LENGTH) -> nn.Module:
    torch.manual_seed(1)
    model = SASRec(
        spec=spec,
        embedding_dim=16,
        max_sequence_length=max_sequence_length,
        num_blocks=2,
        block=BLOCKS[block],
        dropout_rate=0.2,
        id_dropout_rate=0.1,
    )
    model.describe_products(random_products(spec))
    for weight in model.parameters():  # tables begin small, so that mistakes would be small, too
        if weight.dim() > 1:
            nn.init.normal_(weight, std=0.3)
    return with_looked_up_products(model.user_encoder)


@pytest.fixture(scope="module", params=sorted(set(BLOCKS) - {"hstu"}))
def graphs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    encoder = encoder_of(request.param)
    export_user_encoder(encoder, folder / "whole.onnx", max_sequence_length=LENGTH)
    export_incremental_user_encoder(encoder, folder / "increment.onnx")
    return encoder, folder / "whole.onnx", folder / "increment.onnx"


def history_of(length: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 9, size=length) for name in HISTORY_INPUTS} | {
        "event_type": rng.integers(1, 9, size=length)
    }


@given(stops=st.sets(st.integers(1, LENGTH), min_size=1), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_in_any_groups_the_vectors_are_those_of_the_whole_graph(graphs, stops, seed):
    _, whole, increment = graphs
    history = history_of(max(stops), seed)
    found = replay(open_graph(increment), history, sorted(stops))
    session = open_graph(whole)
    for vector, stop in zip(found, sorted(stops), strict=True):
        prefix = {name: values[None, :stop] for name, values in history.items()}
        np.testing.assert_allclose(vector, run_graph(session, prefix)[0], atol=1e-5, rtol=0)


def test_the_measure_finds_them_equal_and_compares_at_the_end(graphs):
    encoder, whole, increment = graphs
    batch = {name: np.stack([history_of(LENGTH, seed)[name] for seed in range(3)]) for name in HISTORY_INPUTS}
    for values in batch.values():
        values[1, :5] = 0  # a padded one
        values[2] = 0  # one without events
    parity = measure_incremental_parity(encoder, increment, whole=whole, recorded=[batch])
    assert 0 < parity.max_abs_diff < INCREMENTAL_TOLERANCE
    assert parity.max_abs_diff_of_graphs < INCREMENTAL_TOLERANCE
    assert parity.num_vectors >= 4  # two histories, each event by event and in groups


def test_the_graph_says_what_it_takes_and_gives(graphs):
    encoder, _, increment = graphs
    session = open_graph(increment)
    past = [f"past_{number}" for number in range(encoder.num_cached)]
    assert [entry.name for entry in session.get_inputs()] == [*HISTORY_INPUTS[:-1], *past]
    new = [f"new_{number}" for number in range(encoder.num_cached)]
    assert [entry.name for entry in session.get_outputs()] == ["user_vector", *new]


def test_another_encoder_is_found_out(graphs, tmp_path):
    encoder, whole, _ = graphs
    other = encoder_of("pre_norm")
    nn.init.constant_(other.last_norm.bias, 0.5)
    export_incremental_user_encoder(other, tmp_path / "other.onnx")
    batch = {name: values[None] for name, values in history_of(5).items()}
    parity = measure_incremental_parity(encoder, tmp_path / "other.onnx", whole=whole, recorded=[batch])
    assert min(parity.max_abs_diff, parity.max_abs_diff_of_graphs) > 0.1


def test_vectors_that_are_not_finite_are_refused(graphs, tmp_path):
    encoder, whole, _ = graphs
    broken = encoder_of("pre_norm")
    nn.init.constant_(broken.last_norm.bias, float("nan"))
    export_incremental_user_encoder(broken, tmp_path / "broken.onnx")
    batch = {name: values[None] for name, values in history_of(5).items()}
    with pytest.raises(ExportError, match=r"a vector of broken\.onnx that is not finite"):
        measure_incremental_parity(encoder, tmp_path / "broken.onnx", whole=whole, recorded=[batch])


def test_a_log_without_streamers_and_one_event_at_most(tmp_path):
    encoder = encoder_of("pre_norm", spec=FeatureSpec(num_users=0, num_streamers=0, num_products=30))
    export_incremental_user_encoder(encoder, tmp_path / "products.onnx")
    asked = [entry.name for entry in open_graph(tmp_path / "products.onnx").get_inputs()]
    assert "streamer_index" not in asked
    short = encoder_of("pre_norm", max_sequence_length=1)
    export_incremental_user_encoder(short, tmp_path / "short.onnx")
    assert replay(open_graph(tmp_path / "short.onnx"), history_of(1), [1]).shape == (1, 16)


def test_which_encoders_have_an_increment():
    two_tower = TwoTower(
        spec=SPEC,
        embedding_dim=8,
        max_sequence_length=4,
        hidden_dim=0,
        temperature=1.0,
        use_user_id=False,
        id_dropout_rate=0.0,
    )
    assert can_be_incremental(encoder_of("pre_norm"))
    assert not can_be_incremental(encoder_of("hstu"))
    assert not can_be_incremental(two_tower.user_encoder)


def test_an_increment_that_is_not_exact_is_left_out(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(bundle_writer, "INCREMENTAL_TOLERANCE", 0.0)
    encoder = encoder_of("pre_norm")
    export_user_encoder(encoder, tmp_path / "user_encoder.onnx", max_sequence_length=LENGTH)
    batch = {name: values[None] for name, values in history_of(5).items()}
    said = bundle_writer.write_increment(encoder, tmp_path, [batch])
    assert not said["written"]
    assert [file.name for file in tmp_path.iterdir()] == ["user_encoder.onnx"]
    assert "left out of the bundle, it is not exact" in caplog.text
    assert bundle_writer.write_increment(encoder_of("hstu"), tmp_path, [batch]) is None
