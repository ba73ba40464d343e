"""What a user encoder is fed of one viewer, kept up as events are added instead of made anew."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.features.spec import HISTORY_INPUTS
from roomrec.features.transforms import ages_s, time_gap_bucket, watch_time_bucket
from roomrec.features.vocabulary import Vocabulary
from roomrec.ids import FIRST_INDEX
from serving.state.records import PastEvent

_COLUMNS: Final = HISTORY_INPUTS[:5]
_GAP: Final = _COLUMNS.index("time_gap_bucket")
_AT_MS: Final = len(_COLUMNS)
_FEWEST: Final = 16
_EVENT_BYTES: Final = 400
"""An unpacked event with its ids, if nobody else holds it."""

Int64Array = npt.NDArray[np.int64]


class ViewerInputs:
    """The events of one viewer and the inputs made of them, equal to ``history_inputs(build_history(...))``.

    Args:
        vocabulary: Of the model that will read the inputs.

    Example:
        >>> inputs = ViewerInputs(Vocabulary({"streamer": ["mia"], "product": []}))
        >>> entered = PastEvent(1_000, "e1", 1_000, 2, "mia", None, "r1", -1)
        >>> watched = PastEvent(61_000, "e2", 61_000, 3, "mia", None, "r1", 3_000)
        >>> inputs.follow([entered]), inputs.follow([entered, watched])
        (0, 1)
        >>> {name: column.tolist() for name, column in inputs.cut(1, 2).items()}["time_gap_bucket"]
        [6]
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._events: list[PastEvent] = []
        self._columns: Int64Array = np.empty((len(_COLUMNS) + 1, 0), dtype=np.int64)
        self._newest_known = -1

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_readable(self) -> bool:
        """Whether an event names a host or product that the vocabulary knows."""
        return self._newest_known >= 0

    @property
    def nbytes(self) -> int:
        """About how many bytes this takes."""
        return self._columns.nbytes + _EVENT_BYTES * len(self._events)

    def follow(self, events: Sequence[PastEvent]) -> int:
        """Take over the events of a viewer as they are now.

        Args:
            events: Those of a ``UserRecord``: of the types of a history, each once, in their order.

        Returns:
            How many of the first events are the same as before and have the same places.
        """
        old = self._events
        if old == events:
            return len(old)
        if dropped := self._dropped(events):
            self._drop(dropped)
            old = self._events
        shared = min(len(old), len(events))
        if old[:shared] == events[:shared]:
            kept = shared
        else:  # a late event among them, or one that was erased
            kept = next(place for place in range(shared) if old[place] != events[place])
        self._events = list(events)
        self._write(kept)
        return 0 if dropped else kept

    def cut(self, start: int, stop: int) -> dict[str, Int64Array]:
        """Return the inputs of events ``[start, stop)`` as they stand in the whole history, each ``[stop - start]``."""
        return {name: self._columns[row, start:stop] for row, name in enumerate(_COLUMNS)}

    def newest(self, max_length: int) -> dict[str, Int64Array]:
        """Return every input of the newest events as a history of their own, as ``history_inputs`` does.

        Args:
            max_length: L, the most events to return.
        """
        stop = len(self._events)
        start = max(0, stop - max_length)
        inputs = self.cut(start, stop)
        if start:
            inputs["time_gap_bucket"] = inputs["time_gap_bucket"].copy()
            inputs["time_gap_bucket"][0] = 0
        return inputs | {"age_s": ages_s(self._columns[_AT_MS, start:stop])}

    def _dropped(self, events: Sequence[PastEvent]) -> int:
        """Count the oldest events that are no longer there, as when more come than are remembered."""
        old = self._events
        if not old or not events or events[0] == old[0]:
            return 0
        place = bisect_left(old, _order(events[0]), key=_order)
        return place if place < len(old) and old[place] == events[0] else 0

    def _drop(self, count: int) -> None:
        stop = len(self._events)
        del self._events[:count]
        self._columns[:, : stop - count] = self._columns[:, count:stop].copy()
        self._columns[_GAP, 0] = 0
        self._newest_known = max(-1, self._newest_known - count)

    def _write(self, kept: int) -> None:
        """Make the inputs of all events from a place on."""
        count = len(self._events)
        self._reserve(count)
        index = self._vocabulary.index
        if self._newest_known >= kept:
            known = np.flatnonzero(self._columns[1:3, :kept].max(axis=0) >= FIRST_INDEX)
            self._newest_known = int(known[-1]) if len(known) else -1
        before_ms = self._events[kept - 1].occurred_at_ms if kept else None
        rows = []
        for place in range(kept, count):
            event = self._events[place]
            at_ms = event.occurred_at_ms
            streamer, product = index("streamer", event.streamer_id), index("product", event.product_id)
            gap = 0 if before_ms is None else time_gap_bucket(at_ms - before_ms)
            rows.append((event.event_type, streamer, product, gap, watch_time_bucket(event.watch_time_ms), at_ms))
            before_ms = at_ms
            if streamer >= FIRST_INDEX or product >= FIRST_INDEX:
                self._newest_known = place
        if rows:
            self._columns[:, kept:count] = np.array(rows, dtype=np.int64).T

    def _reserve(self, count: int) -> None:
        capacity = self._columns.shape[1]
        if count > capacity:
            grown = np.empty((len(self._columns), max(_FEWEST, 2 * capacity, count)), dtype=np.int64)
            grown[:, :capacity] = self._columns
            self._columns = grown


def _order(event: PastEvent) -> tuple[int, str]:
    return event.occurred_at_ms, event.event_id
