"""torch = ONNX, for every input a replica may meet."""

import numpy as np
import pytest
import torch
from torch import nn

from roomrec.errors import ExportError
from roomrec.export.onnx import (
    DEFAULT_TOLERANCE,
    export_item_encoder,
    export_user_encoder,
    measure_parity,
    open_graph,
    run_graph,
)
from roomrec.export.recorded import recorded_histories, recorded_items
from roomrec.features.spec import HISTORY_INPUTS, ITEM_INPUTS, FeatureSpec
from roomrec.models.hstu_block import HstuBlock
from roomrec.models.product_catalogue import with_looked_up_products
from roomrec.models.sasrec import SASRec
from roomrec.sequences.dataset import ProcessedDataset
from tests.blocks import BLOCKS, random_products

LENGTH = 12
SPEC = FeatureSpec(
    num_users=9, num_streamers=20, num_products=30, num_categories=5, num_title_tokens=50, num_attributes=9
)


@pytest.fixture(scope="module", params=sorted(BLOCKS))
def model(request):
    torch.manual_seed(1)
    model = SASRec(
        spec=SPEC,
        embedding_dim=16,
        max_sequence_length=LENGTH,
        num_blocks=2,
        block=BLOCKS[request.param],
        dropout_rate=0.2,
        id_dropout_rate=0.1,
    )
    model.describe_products(random_products(SPEC))
    return model


@pytest.fixture(scope="module")
def user_graph(model, tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "user_encoder.onnx"
    export_user_encoder(with_looked_up_products(model.user_encoder), file, max_sequence_length=LENGTH)
    return file


@pytest.fixture(scope="module")
def item_graph(model, tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "item_encoder.onnx"
    export_item_encoder(model.item_encoder, file, spec=SPEC)
    return file


def histories(batch: int, length: int, padding: int, *, highest: int = 9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(batch * 1000 + length)
    inputs = {name: rng.integers(1, highest, size=(batch, length)) for name in HISTORY_INPUTS}
    for values in inputs.values():
        values[:, :padding] = 0
    return inputs | {"user_index": rng.integers(1, 9, size=batch)}


@pytest.mark.parametrize(
    ("batch", "length", "padding"),
    [
        (1, 1, 0),
        (1, 1, 1),
        (1, LENGTH, LENGTH),
        (1, LENGTH, 0),
        (1, LENGTH, LENGTH - 1),
        (33, 7, 3),
        (64, LENGTH, 0),
    ],
)
def test_user_vectors_agree_at_any_batch_length_and_padding(model, user_graph, batch, length, padding):
    parity = measure_parity(model.user_encoder, user_graph, [histories(batch, length, padding)], tolerance=1e-5)
    assert parity.num_vectors == batch


def test_ids_outside_the_vocabulary_agree(model, user_graph, item_graph):
    unknown = histories(4, 6, 2, highest=2)
    measure_parity(model.user_encoder, user_graph, [unknown], tolerance=1e-5)
    shapes = {
        "product": (3, SPEC.max_products),
        "title": (3, SPEC.title_length),
        "attributes": (3, SPEC.max_attributes),
    }
    items = {name: np.ones(shapes.get(name, 3), dtype=np.int64) for name in ITEM_INPUTS}
    measure_parity(model.item_encoder, item_graph, [items], tolerance=1e-5)


def test_nothing_at_all_gives_a_finite_vector(user_graph):
    for length in (1, LENGTH):
        vector = run_graph(open_graph(user_graph), histories(1, length, length))
        assert vector.shape == (1, 16)
        assert np.isfinite(vector).all()


def test_padding_does_not_change_a_vector(user_graph):
    session = open_graph(user_graph)
    bare = histories(1, 4, 0)
    padded = {name: np.pad(bare[name], ((0, 0), (5, 0))) for name in HISTORY_INPUTS}
    assert np.allclose(run_graph(session, bare), run_graph(session, padded), atol=1e-6)


def test_a_viewer_in_a_batch_is_a_viewer_alone(user_graph):
    session = open_graph(user_graph)
    together = histories(8, LENGTH, 2)
    alone = {name: values[3:4] for name, values in together.items()}
    assert np.allclose(run_graph(session, together)[3], run_graph(session, alone)[0], atol=1e-6)


def test_graphs_ask_for_what_they_read_and_no_more(model, user_graph, item_graph):
    # Ages are read where attention has a bias for time.
    reads_ages = isinstance(model.user_encoder.blocks[0], HstuBlock)
    read = [name for name in HISTORY_INPUTS if name != "age_s" or reads_ages]
    assert [entry.name for entry in open_graph(user_graph).get_inputs()] == read
    # SPEC knows no prices
    asked = [entry.name for entry in open_graph(item_graph).get_inputs()]
    assert asked == ["streamer", "product", "category", "title", "attributes"]
    assert [entry.name for entry in open_graph(user_graph).get_outputs()] == ["user_vector"]
    assert [entry.name for entry in open_graph(item_graph).get_outputs()] == ["item_vector"]


def test_recorded_inputs_hold_the_corners(live_dataset):
    dataset = ProcessedDataset.open(live_dataset)
    batches = recorded_histories(dataset, max_sequence_length=LENGTH)
    lengths = {tuple((batch["event_type"] > 0).sum(axis=1)) for batch in batches[1:]}
    assert lengths == {(1,), (0,), (LENGTH,), (0, LENGTH, LENGTH)}
    assert any((batch["streamer_index"] == 1).any() for batch in batches)
    sample = (batches[0]["event_type"] > 0).sum(axis=1)
    assert sample.min() == 0
    assert sample.max() == LENGTH
    everything, last = recorded_items(dataset)
    assert everything["streamer"][:2].tolist() == [0, 0]
    assert len(last["streamer"]) == 1
    assert everything["product"].shape[1] == dataset.spec.max_products


class Shifted(nn.Module):
    """An encoder that is not the one that was traced."""

    def __init__(self, inner: nn.Module, shift: float) -> None:
        super().__init__()
        self.inner = inner
        self.shift = shift

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(*inputs) + self.shift


def test_a_difference_is_measured_and_refused(model, user_graph):
    recorded = [histories(4, 5, 1)]
    parity = measure_parity(Shifted(model.user_encoder, 0.25), user_graph, recorded, tolerance=1.0)
    assert parity.max_abs_diff == pytest.approx(0.25, abs=1e-5)
    with pytest.raises(ExportError, match=r"user_encoder\.onnx differs from torch by 0\.25, allowed is 0\.0001"):
        measure_parity(Shifted(model.user_encoder, 0.25), user_graph, recorded, tolerance=DEFAULT_TOLERANCE)
    with pytest.raises(ExportError, match="not finite"):
        measure_parity(Shifted(model.user_encoder, float("nan")), user_graph, recorded, tolerance=1.0)


def test_comparing_leaves_the_module_in_its_mode(model, user_graph):
    model.user_encoder.train()
    measure_parity(model.user_encoder, user_graph, [histories(2, 3, 0)], tolerance=1e-5)
    assert model.user_encoder.training
    model.user_encoder.eval()


class OneNumber(nn.Module):
    """An encoder that takes a decision on the data, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, event_type: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return self.table(event_type)[:, int(event_type.max())]


def test_what_cannot_be_traced_is_said(tmp_path):
    with pytest.raises(ExportError, match="OneNumber cannot be traced to ONNX"):
        export_user_encoder(OneNumber(), tmp_path / "graph.onnx", max_sequence_length=4)


def test_what_does_not_fit_a_graph_is_refused_before_tracing(tmp_path):
    huge = nn.Embedding(10_000_000, 64, device="meta")
    with pytest.raises(ExportError, match="has 2,560,000,000 bytes of parameters, a graph holds 2,000,000,000"):
        export_user_encoder(huge, tmp_path / "graph.onnx", max_sequence_length=4)
