"""RetailRocket-style shop logs: views, carts and purchases with times, and one held-out purchase per user."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from roomrec.errors import SourceError
from roomrec.events.sources.delimited import integers, read_delimited, unreadable
from roomrec.events.sources.source import PRODUCT_SCHEMA, SourceBatch, batch, existing

BEHAVIOURS: Final = {
    "view": "product_click",
    "cart": "add_to_cart",
    "addtocart": "add_to_cart",
    "buy": "order",
    "transaction": "order",
}
"""What the log calls a behaviour, and the event type it becomes; anything else is rejected as an unknown type."""

_WHAT = (
    "a folder with events.tsv (or .tsv.gz, or events.csv of retailrocket.net): user, item, behavior, unix time; "
    "and test_buy.tsv (or .gz): user, item"
)
_COLUMNS = {
    "user": ("user", "visitorid"),
    "item": ("item", "itemid"),
    "behavior": ("behavior", "event"),
    "timestamp": ("timestamp",),
}
_SECONDS_BEFORE = 10**11


class RetailRocket:
    """A shop's log of several behaviours.

    A held-out purchase has no time: it occurs one second after the user's last event.

    Args:
        path: The folder.
        held_out: Whether to read ``test_buy.tsv``; without it split by time.
        name: Default name of the processed dataset.
    """

    expects = _WHAT
    ordered = True

    def __init__(self, *, path: str, held_out: bool = True, name: str = "retailrocket") -> None:
        folder = existing(path, what=_WHAT)
        self.name = name
        self._events = _first(folder, "events.tsv.gz", "events.tsv", "events.csv")
        self._test = _first(folder, "test_buy.tsv.gz", "test_buy.tsv") if held_out else None
        # No held-out purchase is of a product its user had touched before, so what was touched is no answer.
        self.filter_seen = held_out

    def read(self) -> Iterator[SourceBatch]:
        """Read both files.

        Raises:
            SourceError: If a column is missing.
        """
        first = 0
        last_ms: dict[str, int] = {}
        for rows in read_delimited(self._events, _COLUMNS, what=_WHAT):
            good, rejected = unreadable(rows, {"occurred_at_ms": rows["timestamp"]})
            numbered = pa.array([f"rr-{row:010d}" for row in range(first, first + len(rows))])
            first += len(rows)
            kept = rows.append_column("event_id", numbered).filter(good)
            instant = integers(kept["timestamp"])
            at_ms = pc.if_else(pc.less(instant, _SECONDS_BEFORE), pc.multiply(instant, 1000), instant)
            names = pa.array(list(BEHAVIOURS))
            known = pa.array(list(BEHAVIOURS.values())).take(
                pc.index_in(kept["behavior"], value_set=names).combine_chunks()
            )
            if self._test is not None:
                for user, moment in zip(kept["user"].to_pylist(), at_ms.to_pylist(), strict=True):
                    last_ms[user] = max(moment or 0, last_ms.get(user, 0))
            events = batch(
                num_events=len(kept),
                event_id=kept["event_id"],
                event_type=pc.coalesce(known, kept["behavior"].combine_chunks()),
                occurred_at_ms=at_ms,
                user_id=kept["user"],
                product_id=kept["item"],
            )
            yield events._replace(rejected=rejected)
        if self._test is not None:
            yield from self._held_out(self._test, last_ms)

    def products(self) -> pa.Table:
        """Return nothing: items are known by their ids only."""
        return PRODUCT_SCHEMA.empty_table()

    def notes(self) -> dict[str, int]:
        """Return nothing: no decision was taken on what the files say."""
        return {}

    def _held_out(self, file: Path, last_ms: dict[str, int]) -> Iterator[SourceBatch]:
        first = 0
        for rows in read_delimited(file, {name: _COLUMNS[name] for name in ("user", "item")}, what=_WHAT):
            yield batch(
                num_events=len(rows),
                held_out=True,
                event_id=[f"rr-test-{row:010d}" for row in range(first, first + len(rows))],
                event_type="order",
                occurred_at_ms=[last_ms.get(user, 0) + 1000 for user in rows["user"].to_pylist()],
                user_id=rows["user"],
                product_id=rows["item"],
            )
            first += len(rows)


def _first(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise SourceError(f"{folder} holds none of {', '.join(names)}; expected {_WHAT}")
