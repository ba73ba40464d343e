"""The incremental user encoder where what is kept of viewers stays on the GPU."""

from collections.abc import Callable
from typing import Final

import numpy as np
from onnxruntime import OrtValue

from serving.deployments.user_graphs import IncrementalGraph, Inputs, Vector

_FLOAT_BYTES: Final = 4


class DeviceGraph:
    """``incremental_user_encoder.onnx`` bound to memory of a device.

    Only the inputs of new events go there, and only the vector comes back: keys and values are written straight to
    their place behind those of earlier events.

    Args:
        graph: The graph, its session on that device.
        device: As ONNX Runtime calls it, ``cuda``; on ``cpu`` this works, too, slower than the graph by itself.
    """

    def __init__(self, graph: IncrementalGraph, device: str) -> None:
        self.session = graph.session
        self._graph = graph
        self._device = device

    @property
    def bytes_per_event(self) -> int:
        """What is kept of one event, in memory of the device."""
        return self._graph.bytes_per_event

    def encode(self, inputs: Inputs, *, user_id: str) -> Vector:
        """Encode one viewer and keep nothing; see ``UserGraph.encode``."""
        return self._graph.encode(inputs, user_id=user_id)

    def make_room(self, kept: OrtValue | None, *, num_events: int, capacity: int) -> OrtValue:
        """Return what was kept of a viewer with room for more events; see ``ExtendableGraph.make_room``."""
        before = None if kept is None else kept.numpy()
        room = self._graph.make_room(before, num_events=num_events, capacity=capacity)
        return OrtValue.ortvalue_from_numpy(room, self._device, 0)

    def extend(self, inputs: Inputs, kept: OrtValue, num_events: int) -> Vector:
        """Encode one viewer by new events; see ``ExtendableGraph.extend``."""
        graph = self._graph
        _, capacity, width = kept.shape()
        vector: Vector = np.empty(width, dtype=np.float32)
        num_new = len(inputs["event_type"])
        binding = self.session.io_binding()
        for name in graph.events:
            binding.bind_cpu_input(name, inputs[name])
        for name, row in graph.past:
            start = kept.data_ptr() + _FLOAT_BYTES * row * capacity * width
            self._bind(binding.bind_input, name, start, (num_events, width))
        binding.bind_output(graph.outputs[0], "cpu", 0, np.float32, (1, width), vector.ctypes.data)
        for row, name in enumerate(graph.outputs[1:]):
            start = kept.data_ptr() + _FLOAT_BYTES * (row * capacity + num_events) * width
            self._bind(binding.bind_output, name, start, (num_new, width))
        self.session.run_with_iobinding(binding)
        return vector

    def _bind(self, bind: Callable[..., None], name: str, start: int, shape: tuple[int, int]) -> None:
        bind(name, self._device, 0, np.float32, shape, start)
