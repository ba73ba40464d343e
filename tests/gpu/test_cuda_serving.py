"""Serving's user encoder on a CUDA device: keys and values stay there, and the vectors are those of the CPU."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from roomrec.bundle import Bundle
from roomrec.events.schema import EVENT_TYPE_CODES
from roomrec.export.onnx import open_graph, run_graph
from roomrec.features.vocabulary import Vocabulary
from roomrec.sequences.history import history_inputs
from serving.deployments.device_graph import DeviceGraph
from serving.deployments.encoders import Encoders, open_user_graph
from serving.state.records import PastEvent, UserRecord, user_history
from tests.sequence_bundles import write_sequence_bundle

LENGTH = 50
VOCABULARY = Vocabulary({"streamer": ["mia", "tom"], "product": ["silk"]})

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        "CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs onnxruntime-gpu"
    ),
]


@pytest.mark.parametrize("block", ["pre_norm", "frequency"])
def test_events_one_by_one_on_the_device_are_the_whole_history_on_the_cpu(tmp_path: Path, block: str) -> None:
    folder = write_sequence_bundle(
        tmp_path / "bundle", VOCABULARY, block=block, embedding_dim=64, max_sequence_length=LENGTH
    )
    bundle = Bundle.open(folder)
    encoders = Encoders(bundle)
    assert encoders.provider == "CUDAExecutionProvider"
    assert isinstance(open_user_graph(bundle), DeviceGraph)
    whole = open_graph(bundle.user_encoder_path)
    events = [
        PastEvent(n * 7_000, f"e{n:03}", n, EVENT_TYPE_CODES["enter"], ("mia", "tom")[n % 2], None, "r", -1)
        for n in range(LENGTH + 2)
    ]
    for count in range(1, len(events) + 1):
        found = encoders.viewers.encode("u1", events[:count])
        history = user_history(UserRecord("u1", events[:count]), VOCABULARY)
        inputs = history_inputs(history, start=0, stop=count, max_length=LENGTH)
        expected = run_graph(whole, {name: values[None] for name, values in inputs.items()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert (encoders.viewers.steps, encoders.viewers.full) == (LENGTH - 1, 2)
