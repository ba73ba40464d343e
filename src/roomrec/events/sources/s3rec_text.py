"""Text of the S3-Rec kind, ``user item item ...`` a line: what users chose, in order or not, without times."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from roomrec.errors import SourceError
from roomrec.events.schema import ATTRIBUTE_SEPARATOR
from roomrec.events.sources.source import PRODUCT_SCHEMA, SourceBatch, batch, existing

STEP_MS: Final = 1_000
"""Synthetic time between two events of one user: the log has none, so all gaps are the same and say nothing."""

_WHAT = "a text file of lines `user item item ...`, oldest first, such as Beauty.txt of the S3-Rec repository"
_WHAT_ATTRIBUTES = (
    "a JSON object of item -> list of attributes, such as Beauty_item2attributes.json of the S3-Rec repository"
)
_BATCH_EVENTS = 262_144


class S3RecText:
    """Beauty, ML-1M in SASRec's order: each item of a line becomes a ``product_click`` of the user.

    The n-th item of a user occurs n seconds after the epoch. A file of held-out items continues each user's count.

    Args:
        path: The text file, plain or ``.gz``.
        test_path: Held-out items in the same layout, or None.
        attributes_path: A JSON object of item to list of attributes, or None.
        ordered: Whether lines are oldest first.
        filter_seen: Whether metrics remove what a user had before.
        name: Default name of the processed dataset.

    Raises:
        SourceError: If a file is missing.
    """

    expects = _WHAT

    def __init__(
        self,
        *,
        path: str,
        test_path: str | None = None,
        attributes_path: str | None = None,
        ordered: bool = True,
        filter_seen: bool = True,
        name: str = "s3rec_text",
    ) -> None:
        self.path = existing(path, what=_WHAT)
        self.test_path = None if test_path is None else existing(test_path, what=_WHAT)
        self.attributes_path = None
        if attributes_path is not None:
            self.attributes_path = existing(attributes_path, what=_WHAT_ATTRIBUTES, key="attributes_path")
        self.ordered = ordered
        self.filter_seen = filter_seen
        self.name = name

    def read(self) -> Iterator[SourceBatch]:
        """Read both files.

        Raises:
            SourceError: If there is no item in the first file.
        """
        seen: dict[str, int] = {}
        yield from self._read_file(self.path, seen, held_out=False)
        if self.test_path is not None:
            yield from self._read_file(self.test_path, seen, held_out=True)

    def products(self) -> pa.Table:
        """Return the attributes of items, where a file of them was given.

        Raises:
            SourceError: If the file holds anything else.
        """
        if self.attributes_path is None:
            return PRODUCT_SCHEMA.empty_table()
        of_item = _read_attributes(self.attributes_path)
        rows = [{"product_id": item, "attributes": attributes} for item, attributes in of_item.items()]
        return pa.Table.from_pylist(rows, schema=PRODUCT_SCHEMA)

    def notes(self) -> dict[str, int]:
        """Return nothing: no decision was taken on what the files say."""
        return {}

    def _read_file(self, path: Path, seen: dict[str, int], *, held_out: bool) -> Iterator[SourceBatch]:
        users: list[str] = []
        counts: list[int] = []
        starts: list[int] = []
        items: list[str] = []
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                if not line.strip():
                    continue
                user, *chosen = line.split()
                if not chosen:  # some published test files name users of whom nothing is held out
                    continue
                users.append(user)
                counts.append(len(chosen))
                starts.append(seen.get(user, 0))
                seen[user] = starts[-1] + len(chosen)
                items += chosen
                if len(items) >= _BATCH_EVENTS:
                    yield self._batch(users, counts, starts, items, held_out=held_out)
                    users, counts, starts, items = [], [], [], []
        if items:
            yield self._batch(users, counts, starts, items, held_out=held_out)
        elif not seen:
            raise SourceError(f"{path} holds no line `user item item ...`")

    def _batch(
        self, users: list[str], counts: list[int], starts: list[int], items: list[str], *, held_out: bool
    ) -> SourceBatch:
        repeats = np.array(counts)
        first = np.repeat(np.cumsum(repeats) - repeats, repeats)
        place = np.arange(len(items)) - first + np.repeat(starts, repeats)
        user_ids = pa.array(users).take(pa.array(np.repeat(np.arange(len(users)), repeats)))
        event_ids = [f"{user}-{n:06d}" for user, n in zip(user_ids.to_pylist(), place.tolist(), strict=True)]
        return batch(
            num_events=len(items),
            held_out=held_out,
            event_id=event_ids,
            event_type="product_click",
            occurred_at_ms=(place + 1) * STEP_MS,
            user_id=user_ids,
            product_id=items,
        )


def _read_attributes(file: Path) -> dict[str, str]:
    """Item to its attributes as the event contract writes them."""
    try:
        of_item = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{file} is no JSON ({error}); expected {_WHAT_ATTRIBUTES}") from error
    if not isinstance(of_item, dict):
        raise SourceError(f"{file} holds {type(of_item).__name__}; expected {_WHAT_ATTRIBUTES}")
    written = {}
    for item, attributes in of_item.items():
        if not isinstance(attributes, list) or not all(type(each) in (str, int) for each in attributes):
            raise SourceError(f"{file} gives item {item!r} {attributes!r}; expected {_WHAT_ATTRIBUTES}")
        tags = [str(each) for each in attributes]
        if broken := [tag for tag in tags if ATTRIBUTE_SEPARATOR in tag]:
            raise SourceError(
                f"{file} gives item {item!r} attribute {broken[0]!r}, and {ATTRIBUTE_SEPARATOR!r} separates attributes"
            )
        written[item] = ATTRIBUTE_SEPARATOR.join(tags)
    return written
