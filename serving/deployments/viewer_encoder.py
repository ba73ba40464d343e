"""Viewers to vectors, running only what is new of each: the events that came since the viewer was last encoded."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from roomrec.features.vocabulary import Vocabulary
from serving.deployments.user_graphs import ExtendableGraph, UserGraph, Vector
from serving.deployments.viewer_inputs import ViewerInputs
from serving.state.records import PastEvent

DEFAULT_CACHE_BYTES: Final = 64 << 20
"""Most bytes remembered of viewers: some 900 of them, 64 wide with 2 blocks and 50 events each."""

_FEWEST: Final = 8
_VIEWER_BYTES: Final = 1_000


class ViewerEncoder:
    """Encodes viewers by their events and remembers, of those who asked lately, what the next event will need.

    The vector is always that of the whole history: what is remembered counts as far as the first events are the same,
    so late, repeated and erased events come out as if they had never been encoded otherwise. Positions are counted
    from the oldest event kept, so once a history is longer than L every new event moves all of them, and the newest L
    are encoded anew each time. Not for several threads.

    Args:
        graph: The user encoder.
        vocabulary: Of the same bundle.
        max_length: L, the most events it takes.
        cache_bytes: Most bytes remembered; 0 for nothing.

    Attributes:
        hits: Histories that were the same as when last encoded; nothing was run.
        steps: Those of which only new events were run.
        prefills: Those that were run from their first event, to be remembered.
        full: Those that were run whole and not remembered: as long as L or longer, or a graph that knows no increment.

    Raises:
        ValueError: If ``cache_bytes`` is negative.
    """

    def __init__(
        self,
        graph: UserGraph,
        *,
        vocabulary: Vocabulary,
        max_length: int,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes must not be negative, received {cache_bytes}")
        self._graph = graph
        self._increment: ExtendableGraph[Any] | None = graph if isinstance(graph, ExtendableGraph) else None
        self._vocabulary = vocabulary
        self._max_length = max_length
        self._cache_bytes = cache_bytes
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self.nbytes = 0
        self.hits = self.steps = self.prefills = self.full = 0

    def __len__(self) -> int:
        """How many viewers are remembered."""
        return len(self._known)

    def __contains__(self, user_id: str) -> bool:
        return user_id in self._known

    def encode(self, user_id: str, events: Sequence[PastEvent]) -> Vector | None:
        """Encode a viewer.

        Args:
            user_id: External id.
            events: Those of a ``UserRecord``: of the types of a history, each once, in their order.

        Returns:
            The user vector ``[D]``, read-only; None if no event names a host or product that the model knows.

        Raises:
            ValueError: If the vector holds numbers that are not finite.
        """
        if not events:
            self.forget(user_id)
            return None
        known = self._known.get(user_id)
        if known is None:
            known = self._known[user_id] = _Known(self._vocabulary)
        else:
            self._known.move_to_end(user_id)
        try:
            self._bring_up_to_date(known, user_id, events)
        except BaseException:
            self.forget(user_id)
            raise
        self._count_bytes(known)
        return known.vector

    def forget(self, user_id: str) -> None:
        """Remember nothing of a viewer."""
        known = self._known.pop(user_id, None)
        if known is not None:
            self.nbytes -= known.nbytes

    def _bring_up_to_date(self, known: "_Known", user_id: str, events: Sequence[PastEvent]) -> None:
        inputs, count = known.inputs, len(events)
        same = inputs.follow(events)
        if same == count == known.num_encoded:
            self.hits += 1
            return
        known.num_encoded = count
        known.vector = None
        known.num_kept = min(same, known.num_kept)
        if inputs.is_readable:
            known.vector = self._checked(self._run(known, user_id, count))

    def _run(self, known: "_Known", user_id: str, count: int) -> Vector:
        # the last event is always run: the vector is what comes out at its place
        start = min(known.num_kept, count - 1)
        if self._increment is None or count > self._max_length or (start == 0 and count == self._max_length):
            known.keep_nothing()
            self.full += 1
            return self._graph.encode(known.inputs.newest(self._max_length), user_id=user_id)
        if known.capacity < count:
            capacity = min(self._max_length, max(_FEWEST, 2 * known.capacity, count))
            known.kept = self._increment.make_room(known.kept, num_events=start, capacity=capacity)
            known.capacity = capacity
        vector = self._increment.extend(known.inputs.cut(start, count), known.kept, start)
        known.num_kept = count
        if start:
            self.steps += 1
        else:
            self.prefills += 1
        if count == self._max_length:  # the next event moves all others
            known.keep_nothing()
        return vector

    def _checked(self, vector: Vector) -> Vector:
        if not np.isfinite(vector).all():
            raise ValueError("the user vector holds numbers that are not finite")
        vector.setflags(write=False)
        return vector

    def _count_bytes(self, known: "_Known") -> None:
        per_event = 0 if self._increment is None else self._increment.bytes_per_event
        nbytes = _VIEWER_BYTES + known.inputs.nbytes + known.capacity * per_event
        self.nbytes += nbytes - known.nbytes
        known.nbytes = nbytes
        while self.nbytes > self._cache_bytes:
            _, oldest = self._known.popitem(last=False)
            self.nbytes -= oldest.nbytes


class _Known:
    """What is remembered of a viewer."""

    __slots__ = ("capacity", "inputs", "kept", "nbytes", "num_encoded", "num_kept", "vector")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.inputs = ViewerInputs(vocabulary)
        self.num_encoded = -1
        self.vector: Vector | None = None
        self.kept: Any = None
        self.num_kept = 0
        self.capacity = 0
        self.nbytes = 0

    def keep_nothing(self) -> None:
        """Let go of keys and values."""
        self.kept, self.num_kept, self.capacity = None, 0, 0
