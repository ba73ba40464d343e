"""The two encoders of a bundle as ONNX Runtime sessions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime

from roomrec.bundle import Bundle
from roomrec.errors import BundleError
from roomrec.features.items import ItemFacts, item_inputs
from roomrec.features.spec import HISTORY_INPUTS, ITEM_INPUTS
from roomrec.sequences.history import History, history_inputs

_PROVIDERS: Final = ("CUDAExecutionProvider", "CPUExecutionProvider")
_MOST_ITEMS_AT_ONCE: Final = 512
_USER_INDEX: Final = "user_index"


class Encoders:
    """Histories and items to vectors, with the graphs, vocabulary and feature spec of one bundle.

    Args:
        bundle: An opened bundle.

    Raises:
        BundleError: If a graph cannot be loaded, or asks for inputs this code does not know.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._vocabulary = bundle.vocabulary
        self._spec = bundle.spec
        self._max_length = bundle.manifest.max_sequence_length
        self.embedding_dim = bundle.manifest.embedding_dim
        self._user_session = _open_session(bundle.user_encoder_path, known=(*HISTORY_INPUTS, _USER_INDEX))
        self._item_session = _open_session(bundle.item_encoder_path, known=ITEM_INPUTS)
        self._user_inputs = [each.name for each in self._user_session.get_inputs()]
        self._item_inputs = [each.name for each in self._item_session.get_inputs()]

    @property
    def provider(self) -> str:
        """Where the graphs really run: available providers may name a GPU that cannot be used."""
        return str(self._user_session.get_providers()[0])

    def encode_user(self, history: History, *, user_id: str) -> npt.NDArray[np.float32]:
        """Encode one viewer.

        Args:
            history: At least one event, oldest first.
            user_id: External id; models without a user table ignore it.

        Returns:
            The user vector, shape ``[D]``.
        """
        arrays = history_inputs(history, start=0, stop=len(history.event_type), max_length=self._max_length)
        arrays = {name: values[None, :] for name, values in arrays.items()}
        if _USER_INDEX in self._user_inputs:
            arrays[_USER_INDEX] = np.array([self._vocabulary.index("user", user_id)], dtype=np.int64)
        (vectors,) = self._user_session.run(None, {name: arrays[name] for name in self._user_inputs})
        return np.asarray(vectors[0], dtype=np.float32)

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


def _open_session(path: Path, *, known: Sequence[str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    providers = [provider for provider in _PROVIDERS if provider in available]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:
        raise BundleError(f"{path} cannot be loaded: {error}") from error
    if unknown := [each.name for each in session.get_inputs() if each.name not in known]:
        raise BundleError(f"{path} asks for inputs {unknown}; known are {list(known)}")
    return session
