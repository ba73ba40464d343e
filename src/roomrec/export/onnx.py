"""Encoders to ONNX: trace, then compare with torch on recorded inputs.

Legend: B batch, L sequence, C items, W places of a bag, D embedding.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn
from torch.export import Dim

from roomrec.errors import ExportError
from roomrec.features.spec import HISTORY_INPUTS, ITEM_INPUTS, FeatureSpec

USER_VECTOR: Final = "user_vector"
"""Output of the user encoder, ``[B, D]`` float32."""

ITEM_VECTOR: Final = "item_vector"
"""Output of the item encoder, ``[C, D]`` float32."""

USER_INPUTS: Final = (*HISTORY_INPUTS, "user_index")
"""What a user encoder is called with, in order. An input it does not read is not in its graph."""

DEFAULT_TOLERANCE: Final = 1e-4
"""Largest difference of a vector's entry that float arithmetic explains."""

MAX_GRAPH_BYTES: Final = 2_000_000_000
"""A graph is one protobuf, which ends at 2 GiB."""

Arrays = Mapping[str, npt.NDArray[np.int64]]


class Parity(NamedTuple):
    """How far an ONNX graph is from the module it was traced from."""

    max_abs_diff: float
    """Largest absolute difference of an entry"""
    num_vectors: int
    """How many vectors were compared"""


def export_user_encoder(user_encoder: nn.Module, file: Path, *, max_sequence_length: int) -> None:
    """Write a user encoder as ONNX with any batch size and any length up to ``max_sequence_length``.

    Args:
        user_encoder: Called with ``USER_INPUTS``; returns ``[B, D]``.
        file: Where to write.
        max_sequence_length: L at most.

    Raises:
        ExportError: If the module cannot be traced.
    """
    length = min(3, max_sequence_length)
    example = {name: torch.ones(2, length, dtype=torch.int64) for name in HISTORY_INPUTS}
    batch = Dim("batch")
    shape: dict[int, Any] = {0: batch}
    if max_sequence_length > 1:
        shape[1] = Dim("length", min=1, max=max_sequence_length)
    shapes: dict[str, dict[int, Any]] = dict.fromkeys(HISTORY_INPUTS, shape)
    example["user_index"] = torch.ones(2, dtype=torch.int64)
    shapes["user_index"] = {0: batch}
    trace(user_encoder, file, example=example, shapes=list(shapes.values()), outputs=[USER_VECTOR])


def export_item_encoder(item_encoder: nn.Module, file: Path, *, spec: FeatureSpec) -> None:
    """Write an item encoder as ONNX with any number of items.

    Args:
        item_encoder: Called with ``ITEM_INPUTS``; returns ``[C, D]``.
        file: Where to write.
        spec: Lengths of the bags.

    Raises:
        ExportError: If the module cannot be traced.
    """
    widths = {"product": (spec.max_products,), "title": (spec.title_length,), "attributes": (spec.max_attributes,)}
    example = {name: torch.ones(2, *widths.get(name, ()), dtype=torch.int64) for name in ITEM_INPUTS}
    items = Dim("items")
    shapes: list[dict[int, Any]] = [{0: items} for _ in ITEM_INPUTS]
    trace(item_encoder, file, example=example, shapes=shapes, outputs=[ITEM_VECTOR])


def open_graph(file: Path) -> onnxruntime.InferenceSession:
    """Open an ONNX graph on one CPU thread, as a serving replica does."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def run_graph(session: onnxruntime.InferenceSession, inputs: Arrays) -> npt.NDArray[np.float32]:
    """Run a graph with one output on the inputs it has; others are left out."""
    (output,) = session.run(None, {entry.name: inputs[entry.name] for entry in session.get_inputs()})
    return np.asarray(output, dtype=np.float32)


def measure_parity(module: nn.Module, file: Path, recorded: Sequence[Arrays], *, tolerance: float) -> Parity:
    """Compare an ONNX graph with the module it was traced from.

    Args:
        module: The torch module, on any device.
        file: Its graph.
        recorded: Batches of inputs by name, in the order of the module's arguments.
        tolerance: Largest absolute difference allowed.

    Returns:
        The largest difference found.

    Raises:
        ExportError: If a vector is not finite, or a difference exceeds the tolerance.
    """
    session = open_graph(file)
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    largest, num_vectors = 0.0, 0
    try:
        for nth, inputs in enumerate(recorded):
            with torch.inference_mode():
                expected = module(*(torch.from_numpy(values).to(device) for values in inputs.values()))
            found = run_graph(session, inputs)
            expected = expected.float().cpu().numpy()
            if not (np.isfinite(found).all() and np.isfinite(expected).all()):
                raise ExportError(f"recorded batch {nth} gives a vector of {file.name} that is not finite")
            largest = max(largest, float(np.abs(found - expected).max(initial=0.0)))
            num_vectors += len(found)
    finally:
        module.train(was_training)
    if largest > tolerance:
        raise ExportError(f"{file.name} differs from torch by {largest:.3g}, allowed is {tolerance:.3g}")
    return Parity(largest, num_vectors)


def trace(
    module: nn.Module,
    file: Path,
    *,
    example: Mapping[str, torch.Tensor],
    shapes: Sequence[dict[int, Any] | tuple[dict[int, Any], ...]],
    outputs: Sequence[str],
) -> None:
    """Write a module as ONNX.

    Args:
        module: Called with the tensors of ``example`` in their order.
        file: Where to write.
        example: One tensor for each input, by its name in the graph.
        shapes: The dimensions that may vary, for each argument of the module; a tuple for ``*arguments``.
        outputs: Names of what the module returns.

    Raises:
        ExportError: If the module cannot be traced, or is too large for a graph.
    """
    num_bytes = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    if num_bytes > MAX_GRAPH_BYTES:
        raise ExportError(
            f"{type(module).__name__} has {num_bytes:,} bytes of parameters, a graph holds {MAX_GRAPH_BYTES:,}: make "
            "embedding_dim or the vocabulary smaller"
        )
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    try:
        with _quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                module,
                tuple(tensor.to(device) for tensor in example.values()),
                dynamo=True,
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes=tuple(shapes),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{type(module).__name__} cannot be traced to ONNX: {error}") from error
    finally:
        module.train(was_training)
    if program is None:
        raise ExportError(f"{type(module).__name__} cannot be traced to ONNX")
    graph = program.model_proto
    _remove_unread_inputs(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, file)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep back what torch says to itself: a deprecation, a missing torchvision, two inputs that share an axis."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name: .* will not be used", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _remove_unread_inputs(model: onnx.ModelProto) -> None:
    """Take out inputs whose values no node reads, so that a graph asks for exactly what it needs.

    The exporter asks any input for the batch size, also one that is needed for nothing else. All have the same first
    dimension, so the question goes to one that is read anyway.
    """
    graph = model.graph
    asks_size = [node for node in graph.node if node.op_type == "Shape" and _only_first_dimension(node)]
    read = {name for node in graph.node if node not in asks_size for name in node.input}
    kept = [entry for entry in graph.input if entry.name in read]
    inputs = {entry.name for entry in graph.input}
    for node in asks_size:
        if node.input[0] in inputs - read:
            node.input[0] = kept[0].name
    del graph.input[:]
    graph.input.extend(kept)


def _only_first_dimension(node: onnx.NodeProto) -> bool:
    return {attribute.name: attribute.i for attribute in node.attribute} == {"start": 0, "end": 1}
