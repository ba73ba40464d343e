"""The user encoder of a bundle as a graph: whole histories, or new events against what was kept of old ones.

Legend: T events of a viewer seen before, S new ones, P tensors that are kept of them, D embedding.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnxruntime

from roomrec.bundle import Bundle
from roomrec.errors import BundleError
from roomrec.features.spec import HISTORY_INPUTS, INCREMENT_INPUTS, NEW, PAST
from serving.deployments.sessions import open_session

_USER_INDEX: Final = "user_index"
_USER_VECTOR: Final = "user_vector"

Inputs = Mapping[str, npt.NDArray[np.int64]]
Vector = npt.NDArray[np.float32]
Kept = npt.NDArray[np.float32]
KeptT = TypeVar("KeptT")


class UserGraph(Protocol):
    """A user encoder that takes histories whole."""

    session: onnxruntime.InferenceSession

    def encode(self, inputs: Inputs, *, user_id: str) -> Vector:
        """Encode one viewer.

        Args:
            inputs: Of at least one event, for each name in ``HISTORY_INPUTS`` an array ``[L]``, oldest first.
            user_id: External id; models without a user table ignore it.

        Returns:
            The user vector ``[D]``.
        """


class WholeGraph:
    """``user_encoder.onnx``.

    Args:
        bundle: An opened bundle.

    Raises:
        BundleError: If the graph cannot be loaded, or asks for inputs this code does not know.
    """

    def __init__(self, bundle: Bundle) -> None:
        known = {*HISTORY_INPUTS, _USER_INDEX}
        self.session = open_session(bundle.user_encoder_path, is_known=known.__contains__)
        self._vocabulary = bundle.vocabulary
        self._histories = [each.name for each in self.session.get_inputs() if each.name != _USER_INDEX]
        self._asks_user = len(self._histories) < len(self.session.get_inputs())

    def encode(self, inputs: Inputs, *, user_id: str) -> Vector:
        """Encode one viewer; see ``UserGraph.encode``."""
        feed = {name: inputs[name][None, :] for name in self._histories}
        if self._asks_user:
            feed[_USER_INDEX] = np.array([self._vocabulary.index("user", user_id)], dtype=np.int64)
        (vectors,) = self.session.run((_USER_VECTOR,), feed)
        return np.asarray(vectors[0], dtype=np.float32)


@runtime_checkable
class ExtendableGraph(UserGraph, Protocol[KeptT]):
    """A user encoder that also takes new events against what was kept of old ones."""

    @property
    def bytes_per_event(self) -> int:
        """What is kept of one event."""

    def make_room(self, kept: KeptT | None, *, num_events: int, capacity: int) -> KeptT:
        """Return what was kept of a viewer with room for more events.

        Args:
            kept: As this returned it before; None for nothing.
            num_events: T, how many events to take over.
            capacity: How many there shall be room for.
        """

    def extend(self, inputs: Inputs, kept: KeptT, num_events: int) -> Vector:
        """Encode one viewer by new events, and put what is kept of them behind the events before.

        Args:
            inputs: Of the new events, for each name in ``INCREMENT_INPUTS`` an array ``[S]``.
            kept: What was kept of events before, with room for S more; changed in place.
            num_events: T, how many of those before count.

        Returns:
            The user vector ``[D]``.
        """


class IncrementalGraph:
    """``incremental_user_encoder.onnx`` on the CPU; what is kept of a viewer is one array ``[P, capacity, D]``.

    Args:
        path: The graph.

    Attributes:
        events: Inputs that describe the new events.
        past: Inputs that take what was kept, and the row of each.
        outputs: The user vector, then what to keep, row by row.
        width: D.

    Raises:
        BundleError: If the graph cannot be loaded, or asks for or returns something else.
    """

    def __init__(self, path: Path) -> None:
        self.session = open_session(path, is_known=lambda name: name in INCREMENT_INPUTS or name.startswith(PAST))
        asked = self.session.get_inputs()
        self.events = [each.name for each in asked if not each.name.startswith(PAST)]
        self.past = [(each.name, int(each.name.removeprefix(PAST))) for each in asked if each.name.startswith(PAST)]
        self.outputs = [_USER_VECTOR, *(f"{NEW}{row}" for row in range(len(asked) - len(self.events)))]
        found = {each.name for each in self.session.get_outputs()}
        if not self.past or found != set(self.outputs) or max(row for _, row in self.past) >= len(self.past):
            raise BundleError(f"{path} returns {sorted(found)} for {[each.name for each in asked]}")
        self.width = int(asked[-1].shape[1])
        self._nothing = np.empty((0, self.width), dtype=np.float32)

    @property
    def bytes_per_event(self) -> int:
        """What is kept of one event."""
        return len(self.past) * self.width * self._nothing.itemsize

    def encode(self, inputs: Inputs, *, user_id: str) -> Vector:
        """Encode one viewer and keep nothing; see ``UserGraph.encode``."""
        feed: dict[str, npt.NDArray[Any]] = {name: inputs[name] for name in self.events}
        for name, _ in self.past:
            feed[name] = self._nothing
        (vectors,) = self.session.run((_USER_VECTOR,), feed)
        return np.asarray(vectors[0], dtype=np.float32)

    def make_room(self, kept: Kept | None, *, num_events: int, capacity: int) -> Kept:
        """Return what was kept of a viewer with room for more events; see ``ExtendableGraph.make_room``."""
        room: Kept = np.empty((len(self.past), capacity, self.width), dtype=np.float32)
        if kept is not None:
            room[:, :num_events] = kept[:, :num_events]
        return room

    def extend(self, inputs: Inputs, kept: Kept, num_events: int) -> Vector:
        """Encode one viewer by new events; see ``ExtendableGraph.extend``."""
        feed: dict[str, npt.NDArray[Any]] = {name: inputs[name] for name in self.events}
        for name, row in self.past:
            feed[name] = kept[row, :num_events]
        vectors, *new = self.session.run(self.outputs, feed)
        stop = num_events + len(new[0])
        for row, added in enumerate(new):
            kept[row, num_events:stop] = added
        return np.asarray(vectors[0], dtype=np.float32)
