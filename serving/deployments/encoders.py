"""The two encoders of a bundle as ONNX Runtime sessions."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.bundle import Bundle
from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import ITEM_INPUTS
from roomrec.sequences.history import History, history_inputs
from serving.deployments.device_graph import DeviceGraph
from serving.deployments.sessions import open_session
from serving.deployments.user_graphs import IncrementalGraph, UserGraph, WholeGraph
from serving.deployments.viewer_encoder import DEFAULT_CACHE_BYTES, ViewerEncoder

_MOST_ITEMS_AT_ONCE: Final = 512


class Encoders:
    """Histories and items to vectors, with the graphs, vocabulary and feature spec of one bundle.

    Args:
        bundle: An opened bundle.
        cache_bytes: Most bytes remembered of viewers.

    Attributes:
        viewers: Encodes viewers by their events and remembers what the next event will need.

    Raises:
        BundleError: If a graph cannot be loaded, or asks for inputs this code does not know.
    """

    def __init__(self, bundle: Bundle, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._vocabulary = bundle.vocabulary
        self._spec = bundle.spec
        self._max_length = bundle.manifest.max_sequence_length
        self.embedding_dim = bundle.manifest.embedding_dim
        self._user_graph = open_user_graph(bundle)
        self.viewers = ViewerEncoder(
            self._user_graph, vocabulary=bundle.vocabulary, max_length=self._max_length, cache_bytes=cache_bytes
        )
        self._item_session = open_session(bundle.item_encoder_path, is_known=ITEM_INPUTS.__contains__)
        self._item_inputs = [each.name for each in self._item_session.get_inputs()]

    @property
    def provider(self) -> str:
        """Where the graphs really run: available providers may name a GPU that cannot be used."""
        return str(self._user_graph.session.get_providers()[0])

    def encode_user(self, history: History, *, user_id: str) -> npt.NDArray[np.float32]:
        """Encode one viewer by the whole history, and remember nothing.

        Args:
            history: At least one event, oldest first.
            user_id: External id; models without a user table ignore it.

        Returns:
            The user vector, shape ``[D]``.
        """
        arrays = history_inputs(history, start=0, stop=len(history.event_type), max_length=self._max_length)
        return self._user_graph.encode(arrays, user_id=user_id)

    def encode_items(self, items: Sequence[ItemFacts]) -> npt.NDArray[np.float32]:
        """Encode rooms and products, shape ``[len(items), D]``."""
        parts = [np.empty((0, self.embedding_dim), dtype=np.float32)]
        for start in range(0, len(items), _MOST_ITEMS_AT_ONCE):
            arrays = item_inputs(
                items[start : start + _MOST_ITEMS_AT_ONCE], vocabulary=self._vocabulary, spec=self._spec
            )
            (vectors,) = self._item_session.run(None, {name: arrays[name] for name in self._item_inputs})
            parts.append(np.asarray(vectors, dtype=np.float32))
        return np.concatenate(parts)


def open_user_graph(bundle: Bundle) -> UserGraph:
    """Open the user encoder of a bundle: the one that takes new events where there is one, as it takes whole ones too.

    Raises:
        BundleError: If it cannot be loaded, or asks for or returns something else.
    """
    if bundle.incremental_user_encoder_path is None:
        return WholeGraph(bundle)
    graph = IncrementalGraph(bundle.incremental_user_encoder_path)
    return DeviceGraph(graph, "cuda") if graph.session.get_providers()[0] == "CUDAExecutionProvider" else graph
