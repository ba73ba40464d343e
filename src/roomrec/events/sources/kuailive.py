"""KuaiLive, the public live-streaming log, in the CSV layout in which it is published.

==================== =============================================================================================
click                ``enter`` at its timestamp, ``watch`` (with watch_live_time) when the watching ends
comment, like        the same
gift                 ``gift``; gift_price is taken as cents, whatever its currency
negative             ``impression``: shown and not clicked
room                 ``room_start`` (with live_content_category) and ``room_end``
==================== =============================================================================================

A room without end_timestamp gets no ``room_end``: it is live until its last event. A room whose end lies before
something viewers did in it (or before its start) ends just after the last thing they did. Both are counted.
``streamer.csv`` and ``user.csv`` hold nothing the event contract knows.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from roomrec.errors import SourceError
from roomrec.events.sources.delimited import integers, read_delimited, unreadable
from roomrec.events.sources.source import PRODUCT_SCHEMA, SourceBatch, batch, existing

BEHAVIOURS: Final = ("click", "comment", "like", "gift", "negative")
"""Files of what viewers did; each can be left out by configuration, not by absence."""

_WHAT = "the folder of KuaiLive's CSV files: room.csv, click.csv, comment.csv, like.csv, gift.csv, negative.csv"
_COLUMNS = {
    "user_id": ("user_id",),
    "room_id": ("live_id",),
    "streamer_id": ("streamer_id", "author_id"),
    "timestamp": ("timestamp",),
}
_IDS = ("user_id", "room_id", "streamer_id")
_EXTRA = {"click": ("watch_live_time", "watch_time_ms"), "gift": ("gift_price", "amount_cents")}
_EVENT_TYPES = {"click": "enter", "comment": "comment", "like": "like", "gift": "gift", "negative": "impression"}
_ROOM_COLUMNS = {
    "room_id": ("live_id",),
    "streamer_id": ("streamer_id", "author_id"),
    "start": ("start_timestamp",),
    "end": ("end_timestamp",),
    "category": ("live_content_category",),
}
_ROOMS_TO_MERGE = 2_000_000


class KuaiLive:
    """Clicks, comments, likes, gifts, impressions and rooms of a live platform; no products.

    Args:
        path: The folder.
        behaviours: Which files of ``BEHAVIOURS`` to read.
        name: Default name of the processed dataset.

    Raises:
        SourceError: If the folder or a file is missing.
    """

    expects = _WHAT
    ordered = True
    filter_seen = False

    def __init__(self, *, path: str, behaviours: Sequence[str] = BEHAVIOURS, name: str = "kuailive") -> None:
        self._folder = existing(path, what=_WHAT)
        if unknown := set(behaviours) - set(BEHAVIOURS):
            raise SourceError(f"source.behaviours holds {sorted(unknown)}: known are {', '.join(BEHAVIOURS)}")
        self._behaviours = [behaviour for behaviour in BEHAVIOURS if behaviour in behaviours]
        for each in ("room", *self._behaviours):
            existing(self._folder / f"{each}.csv", what=_WHAT)
        self.name = name
        self._notes = {"rooms_without_end": 0, "rooms_whose_end_was_moved": 0}

    def read(self) -> Iterator[SourceBatch]:
        """Read what viewers did, then the rooms, whose end depends on it.

        Raises:
            SourceError: If a column is missing.
        """
        last: list[pa.Table] = []
        for behaviour in self._behaviours:
            yield from self._behaviour(behaviour, last)
        yield from self._rooms(_last_activity(last))

    def products(self) -> pa.Table:
        """Return nothing: the log has no products."""
        return PRODUCT_SCHEMA.empty_table()

    def notes(self) -> dict[str, int]:
        """Return how many rooms had no end or an impossible one; complete once everything was read."""
        return dict(self._notes)

    def _behaviour(self, behaviour: str, last: list[pa.Table]) -> Iterator[SourceBatch]:
        text, column = _EXTRA.get(behaviour, (None, None))
        columns: dict[str, Sequence[str]] = dict(_COLUMNS)
        if text is not None:
            columns["extra"] = (text,)
        optional = ["streamer_id"] if behaviour == "negative" else []
        first = 0
        for rows in read_delimited(self._folder / f"{behaviour}.csv", columns, optional=optional, what=_WHAT):
            numbers = {"occurred_at_ms": rows["timestamp"]} | ({column: rows["extra"]} if column else {})
            good, rejected = unreadable(rows, numbers)
            numbered = pa.array([f"{behaviour}-{row:010d}" for row in range(first, first + len(rows))])
            first += len(rows)
            kept = rows.append_column("event_id", numbered).filter(good)
            at_ms = integers(kept["timestamp"])
            last.append(pa.table({"room_id": kept["room_id"], "at_ms": at_ms}))
            _merge(last)
            yield self._events(behaviour, kept, at_ms)._replace(rejected=rejected)
            if behaviour == "click":
                yield self._watches(kept)

    def _events(self, behaviour: str, kept: pa.Table, at_ms: pa.ChunkedArray) -> SourceBatch:
        return batch(
            num_events=len(kept),
            event_id=kept["event_id"],
            event_type=_EVENT_TYPES[behaviour],
            occurred_at_ms=at_ms,
            amount_cents=integers(kept["extra"]) if behaviour == "gift" else None,
            **{name: kept[name] for name in _IDS},
        )

    def _watches(self, clicks: pa.Table) -> SourceBatch:
        """A report at the end of the watching; a click without watch_live_time has none."""
        reported = clicks.filter(pc.is_valid(clicks["extra"]))
        watched = integers(reported["extra"])
        return batch(
            num_events=len(reported),
            event_id=pc.binary_join_element_wise("watch", reported["event_id"], "-"),
            event_type="watch",
            occurred_at_ms=pc.add(integers(reported["timestamp"]), pc.max_element_wise(watched, 0)),
            watch_time_ms=watched,
            **{name: reported[name] for name in _IDS},
        )

    def _rooms(self, last_activity: dict[str, int]) -> Iterator[SourceBatch]:
        for rows in read_delimited(self._folder / "room.csv", _ROOM_COLUMNS, optional=["category"], what=_WHAT):
            good, rejected = unreadable(rows, {"occurred_at_ms": rows["start"]})
            kept = rows.filter(good)
            start = integers(kept["start"])
            category = [None if name is None else [("category", name)] for name in kept["category"].to_pylist()]
            started = batch(
                num_events=len(kept),
                event_id=pc.binary_join_element_wise("start", kept["room_id"], "-"),
                event_type="room_start",
                occurred_at_ms=start,
                room_id=kept["room_id"],
                streamer_id=kept["streamer_id"],
                context=category,
            )
            yield started._replace(rejected=rejected)
            yield self._ends(kept, start, last_activity)

    def _ends(self, rooms: pa.Table, start: pa.ChunkedArray, last_activity: dict[str, int]) -> SourceBatch:
        end = np.asarray(pc.fill_null(integers(rooms["end"]), -1))
        begun = np.asarray(pc.fill_null(start, 0))
        last = np.array([last_activity.get(room_id, -1) for room_id in rooms["room_id"].to_pylist()], dtype=np.int64)
        known = end > 0
        possible = (end > last) & (end > begun)
        moved = known & ~possible
        self._notes["rooms_without_end"] += int((~known).sum())
        self._notes["rooms_whose_end_was_moved"] += int(moved.sum())
        ended = rooms.filter(pa.array(known))
        return batch(
            num_events=len(ended),
            event_id=pc.binary_join_element_wise("end", ended["room_id"], "-"),
            event_type="room_end",
            occurred_at_ms=np.where(moved, np.maximum(last, begun) + 1, end)[known],
            room_id=ended["room_id"],
            streamer_id=ended["streamer_id"],
        )


def _merge(last: list[pa.Table]) -> None:
    """Fold what was gathered into one row a room once it has grown, so that memory follows rooms, not events."""
    if sum(len(each) for each in last) > _ROOMS_TO_MERGE:
        last[:] = [_latest(last)]


def _latest(last: Sequence[pa.Table]) -> pa.Table:
    found = pa.concat_tables(last).group_by("room_id").aggregate([("at_ms", "max")])
    return found.rename_columns(["room_id", "at_ms"])


def _last_activity(last: Sequence[pa.Table]) -> dict[str, int]:
    if not last:
        return {}
    found = _latest(last)
    pairs = zip(found["room_id"].to_pylist(), found["at_ms"].to_pylist(), strict=True)
    return {room_id: at_ms for room_id, at_ms in pairs if room_id is not None and at_ms is not None}
