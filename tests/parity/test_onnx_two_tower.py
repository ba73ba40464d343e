"""torch = ONNX for the two-tower, whose dense door is not the one training goes through."""

import numpy as np
import pytest
import torch

from roomrec.export.onnx import export_item_encoder, export_user_encoder, measure_parity, open_graph, run_graph
from roomrec.export.recorded import recorded_histories, recorded_items
from roomrec.models.two_tower import TwoTower
from roomrec.sequences.dataset import ProcessedDataset

LENGTH = 12


def make(dataset: ProcessedDataset, *, use_user_id: bool = False) -> TwoTower:
    torch.manual_seed(1)
    return TwoTower(
        spec=dataset.spec,
        embedding_dim=8,
        max_sequence_length=LENGTH,
        hidden_dim=8,
        temperature=0.1,
        use_user_id=use_user_id,
        id_dropout_rate=0.1,
    )


@pytest.mark.parametrize(
    ("world", "user_inputs", "item_inputs"),
    [
        ("live_dataset", ["streamer_index", "product_index"], ["streamer", "product", "category"]),
        ("markov_dataset", ["streamer_index", "product_index"], ["streamer", "product"]),
    ],
)
def test_both_towers_agree_on_recorded_inputs(request, tmp_path, world, user_inputs, item_inputs):
    dataset = ProcessedDataset.open(request.getfixturevalue(world))
    model = make(dataset)
    user_graph, item_graph = tmp_path / "user_encoder.onnx", tmp_path / "item_encoder.onnx"
    export_user_encoder(model.user_encoder, user_graph, max_sequence_length=LENGTH)
    export_item_encoder(model.item_encoder, item_graph, spec=dataset.spec)
    histories = recorded_histories(dataset, max_sequence_length=LENGTH)
    assert measure_parity(model.user_encoder, user_graph, histories, tolerance=1e-5).num_vectors > 256
    measure_parity(model.item_encoder, item_graph, recorded_items(dataset), tolerance=1e-5)
    assert [entry.name for entry in open_graph(user_graph).get_inputs()] == user_inputs
    assert [entry.name for entry in open_graph(item_graph).get_inputs()] == item_inputs


def test_a_model_that_reads_the_user_asks_for_the_user(live_dataset, tmp_path):
    dataset = ProcessedDataset.open(live_dataset)
    model = make(dataset, use_user_id=True)
    export_user_encoder(model.user_encoder, tmp_path / "graph.onnx", max_sequence_length=LENGTH)
    session = open_graph(tmp_path / "graph.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["streamer_index", "product_index", "user_index"]
    (batch, *_) = recorded_histories(dataset, max_sequence_length=LENGTH)
    other = batch | {"user_index": np.roll(batch["user_index"], 1)}
    assert not np.allclose(run_graph(session, batch), run_graph(session, other))
