"""What goes on in a room at the moment: how many enters, comments and orders it had in the last 30 seconds.

A moment is asked for at an instant ``t`` and counts the events that occurred in the ``MOMENT_WINDOW_S`` whole seconds
before the second ``t`` lies in. The second that has only begun is left out, so the answer is the same during all of it,
and events that arrive within that second are not missed. ``MomentCounts`` keeps what is needed of one live room as its
events come, ``moments_as_of`` answers many questions about a whole log; both give the same numbers.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

MOMENT_EVENT_TYPES: Final = ("enter", "comment", "order")
"""Types that are counted, in the order of their columns."""

MOMENT_WINDOW_S: Final = 30
"""Whole seconds counted."""

KEPT_S: Final = 60
"""Seconds remembered of a room: moments can be asked for up to ``KEPT_S - MOMENT_WINDOW_S`` seconds before the newest
event."""

_PLACE = {name: place for place, name in enumerate(MOMENT_EVENT_TYPES)}

Int64Array = npt.NDArray[np.int64]


class Moment(NamedTuple):
    """Events of the last ``MOMENT_WINDOW_S`` whole seconds."""

    enters: int = 0
    comments: int = 0
    orders: int = 0


class MomentCounts(msgspec.Struct, array_like=True):
    """Events of one room by second, of the newest ``KEPT_S`` seconds in which something happened or might have.

    What it holds does not depend on the order in which events are added.

    Example:
        >>> counts = MomentCounts()
        >>> for at_ms in (61_000, 75_300, 75_900, 90_500):
        ...     counts.add("enter", at_ms=at_ms)
        >>> counts.at(91_000)
        Moment(enters=4, comments=0, orders=0)
        >>> counts.at(92_000).enters, counts.at(90_999).enters, counts.at(999_000).enters
        (3, 3, 0)
    """

    newest_s: int = -1
    """second of the newest event, since the epoch; -1 before the first"""
    by_second: dict[int, list[int]] = msgspec.field(default_factory=dict)
    """second -> how many of each type; seconds without events are left out"""

    def add(self, event_type: str, *, at_ms: int) -> None:
        """Count one event.

        Args:
            event_type: One of ``MOMENT_EVENT_TYPES``.
            at_ms: When it occurred; if ``KEPT_S`` seconds before the newest or more, it is no longer asked for.

        Raises:
            KeyError: If events of this type are not counted.
        """
        place, second = _PLACE[event_type], at_ms // 1_000
        if second > self.newest_s:
            self.newest_s = second
            for old in [known for known in self.by_second if known <= second - KEPT_S]:
                del self.by_second[old]
        elif second <= self.newest_s - KEPT_S:
            return
        counts = self.by_second.get(second)
        if counts is None:
            counts = self.by_second[second] = [0] * len(MOMENT_EVENT_TYPES)
        counts[place] += 1

    def at(self, at_ms: int) -> Moment:
        """Return the moment at an instant, as far as it is remembered (see ``KEPT_S``)."""
        until = at_ms // 1_000
        first = until - MOMENT_WINDOW_S
        if self.newest_s < first:
            return Moment()
        sums = [0] * len(MOMENT_EVENT_TYPES)
        for second, counts in self.by_second.items():
            if first <= second < until:
                for place, count in enumerate(counts):
                    sums[place] += count
        return Moment(*sums)


def moments_as_of(
    room: Int64Array,
    type_place: Int64Array,
    occurred_at_ms: Int64Array,
    *,
    asked_room: Int64Array,
    asked_at_ms: Int64Array,
) -> Int64Array:
    """Return the moments of rooms at instants, each as if the log ended there.

    Args:
        room: Room of each event, any whole numbers from 0, shape ``[n]``; events in any order.
        type_place: Its type's place in ``MOMENT_EVENT_TYPES``, shape ``[n]``.
        occurred_at_ms: When it occurred, shape ``[n]``.
        asked_room: Rooms asked about, shape ``[m]``.
        asked_at_ms: Instants asked about, shape ``[m]``.

    Returns:
        Counts, shape ``[m, 3]`` int64, columns as ``MOMENT_EVENT_TYPES``.

    Raises:
        ValueError: If arrays that belong together differ in length.

    Example:
        >>> moments_as_of(np.array([7, 7, 8]), np.array([0, 2, 0]), np.array([61_000, 90_500, 90_600]),
        ...               asked_room=np.array([7, 7]), asked_at_ms=np.array([91_000, 92_000]))
        array([[1, 0, 1],
               [0, 0, 1]])
    """
    if not len(room) == len(type_place) == len(occurred_at_ms):
        raise ValueError(
            f"room, type_place, occurred_at_ms have lengths {len(room)}, {len(type_place)}, {len(occurred_at_ms)}: "
            f"they must be equal"
        )
    if len(asked_room) != len(asked_at_ms):
        raise ValueError(
            f"asked_room, asked_at_ms have lengths {len(asked_room)}, {len(asked_at_ms)}: they must be equal"
        )
    second = occurred_at_ms // 1_000
    until = asked_at_ms // 1_000
    found = np.zeros((len(asked_room), len(MOMENT_EVENT_TYPES)), dtype=np.int64)
    for place in range(len(MOMENT_EVENT_TYPES)):
        chosen = type_place == place
        before = [
            _count_before(room[chosen], second[chosen], asked_room, end) for end in (until - MOMENT_WINDOW_S, until)
        ]
        found[:, place] = before[1] - before[0]
    return found


def _count_before(room: Int64Array, second: Int64Array, asked_room: Int64Array, asked_second: Int64Array) -> Int64Array:
    """How many events lie, in each asked room or one of a smaller number, before each asked second of it."""
    rooms, seconds = np.concatenate([room, asked_room]), np.concatenate([second, asked_second])
    asked = np.arange(len(rooms)) >= len(room)
    order = np.lexsort((~asked, seconds, rooms))  # a question comes before the events of its second
    counted = np.cumsum(~asked[order])
    found = np.empty(len(rooms), dtype=np.int64)
    found[order] = counted
    return found[len(room) :]
