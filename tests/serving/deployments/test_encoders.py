"""The encoders as sessions: what they are fed, and what they refuse."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from roomrec.bundle import Bundle, Registry
from roomrec.errors import BundleError
from roomrec.features.items import ItemFacts
from serving.deployments.encoders import Encoders
from serving.deployments.sessions import open_session
from serving.state.records import StoredUser, apply_to_user, unpack_user, user_history


@pytest.fixture
def bundle(registry_path: Path) -> Bundle:
    registry = Registry(registry_path)
    return Bundle.open(registry.path(registry.versions()[0]))


def history_of(bundle: Bundle, *streamers: str) -> object:
    user = StoredUser("u1")
    for at_ms, streamer in enumerate(streamers):
        event = {"event_id": f"e{at_ms}", "event_type": "enter", "occurred_at_ms": at_ms, "received_at_ms": at_ms}
        apply_to_user(user, event | {"user_id": "u1", "room_id": "r", "streamer_id": streamer}, history_limit=100)
    return user_history(unpack_user(msgspec.msgpack.encode(user)), bundle.vocabulary)


def test_a_viewer_of_one_host_is_next_to_that_host(bundle: Bundle) -> None:
    encoders = Encoders(bundle)
    rooms = encoders.encode_items([ItemFacts(name, [], None, None, None) for name in ("mia", "tom", "zoe")])
    scores = rooms @ encoders.encode_user(history_of(bundle, "tom"), user_id="u1")
    assert scores.argmax() == 1
    assert scores[1] == pytest.approx(1.0)


def test_only_the_newest_events_count(bundle: Bundle) -> None:
    encoders = Encoders(bundle)
    long = encoders.encode_user(history_of(bundle, "mia", *["tom"] * 20), user_id="u1")
    short = encoders.encode_user(history_of(bundle, *["tom"] * 20), user_id="u1")
    np.testing.assert_array_equal(long, short)


def test_many_items_are_encoded_in_pieces(bundle: Bundle) -> None:
    encoders = Encoders(bundle)
    vectors = encoders.encode_items([ItemFacts("mia", [], None, None, None)] * 1_100)
    assert vectors.shape == (1_100, 32)
    assert (vectors == vectors[0]).all()
    assert encoders.encode_items([]).shape == (0, 32)


def test_it_says_where_it_runs(bundle: Bundle) -> None:
    assert Encoders(bundle).provider in {"CPUExecutionProvider", "CUDAExecutionProvider"}


def test_a_graph_that_asks_for_something_else_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("mood", TensorProto.INT64, ["n"])
    result = helper.make_tensor_value_info("out", TensorProto.INT64, ["n"])
    graph = helper.make_graph([helper.make_node("Identity", ["mood"], ["out"])], "g", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "graph.onnx")
    with pytest.raises(BundleError, match=r"asks for inputs \['mood'\]"):
        open_session(tmp_path / "graph.onnx", is_known=["event_type"].__contains__)
