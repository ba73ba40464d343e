"""Which events a model may learn from, which choose between models, and which are looked at once."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from roomrec.errors import ConfigurationError
from roomrec.sequences.dataset import TEST_SPLIT, TRAIN_SPLIT, VALIDATION_SPLIT

DAY_MS: Final = 86_400_000
"""Milliseconds of a day."""

Int8Array = npt.NDArray[np.int8]


class UnsplitHistories(NamedTuple):
    """Histories of U users one after another, each oldest first, T events in all."""

    user_ids: Sequence[str]
    """[U]"""
    offsets: npt.NDArray[np.int64]
    """[U + 1]"""
    occurred_at_ms: npt.NDArray[np.int64]
    """[T]"""
    event_type: npt.NDArray[np.int64]
    """[T] codes"""
    target: npt.NDArray[np.bool_]
    """[T] whether the event is a positive label"""
    held_out: npt.NDArray[np.bool_]
    """[T] whether the log's publisher set it apart for testing"""
    item_index: npt.NDArray[np.int64]
    """[T] the item of the event; PAD if none"""
    ordered: bool
    """Whether the log knows in which order things happened"""
    filter_seen: bool
    """Whether what a user had before is no answer"""


class Assignment(NamedTuple):
    """What a splitting decides."""

    split: Int8Array
    """[T]"""
    target: npt.NDArray[np.bool_]
    """[T] the labels that are left: a publisher's split asks for some of them only"""


class Splitting(Protocol):
    """A way to split."""

    kind: str
    """``leave_one_out``, ``by_time`` or ``given``."""
    vocabulary_from: str
    """``train`` where ids first seen later are cold, ``all`` where the protocol ranks them too."""

    def boundaries(self, first_ms: int, last_ms: int) -> dict[str, int]:
        """Return the instants that separate splits, for a log that spans ``[first_ms, last_ms]``."""
        ...

    def assign(self, histories: UnsplitHistories, boundaries: dict[str, int]) -> Assignment:
        """Return the split of each event, and the labels."""
        ...


class LeaveOneOut:
    """The last target of each user is test, the one before validation, what lies before is train.

    Users with fewer than three targets only train. What happens from the validation target on, up to the test target,
    counts as validation, and as test after that.

    Reference:
        Kang & McAuley 2018 (SASRec), section IV-A.
    """

    kind = "leave_one_out"
    vocabulary_from = "all"

    def boundaries(self, first_ms: int, last_ms: int) -> dict[str, int]:
        """Return nothing: places in a history separate splits, not instants."""
        return {}

    def assign(self, histories: UnsplitHistories, boundaries: dict[str, int]) -> Assignment:
        """Return the split of each event, and the labels."""
        split = np.full(len(histories.target), TRAIN_SPLIT, dtype=np.int8)
        targets = np.flatnonzero(histories.target)
        first, stop = (np.searchsorted(targets, bounds) for bounds in (histories.offsets[:-1], histories.offsets[1:]))
        long = stop - first >= 3
        _mark(split, targets[stop[long] - 2], histories.offsets[1:][long], VALIDATION_SPLIT)
        _mark(split, targets[stop[long] - 1], histories.offsets[1:][long], TEST_SPLIT)
        return Assignment(split, histories.target)


class ByTime:
    """Events before one instant train, events from another on test, what lies between validates.

    Args:
        validation_from: Where validation begins: a date or instant (``2026-01-30``, ``2026-01-30T18:00``, UTC), days
            before the end of the log (``-2d``), or a share of its time range (``0.9``).
        test_from: Where test begins, in the same words.
    """

    kind = "by_time"
    vocabulary_from = "train"

    def __init__(self, *, validation_from: str | float = "-2d", test_from: str | float = "-1d") -> None:
        self._validation_from = validation_from
        self._test_from = test_from

    def boundaries(self, first_ms: int, last_ms: int) -> dict[str, int]:
        """Return the two instants.

        Raises:
            ConfigurationError: If an instant cannot be read, or they do not lie in order inside the log.
        """
        validation = _instant(self._validation_from, first_ms, last_ms, key="splitting.validation_from")
        test = _instant(self._test_from, first_ms, last_ms, key="splitting.test_from")
        if not first_ms < validation < test <= last_ms:
            raise ConfigurationError(
                f"splitting.validation_from is {_show(validation)} and splitting.test_from {_show(test)}: they must "
                f"lie in this order inside the log, which spans {_show(first_ms)} to {_show(last_ms)}"
            )
        return {"validation_from_ms": validation, "test_from_ms": test}

    def assign(self, histories: UnsplitHistories, boundaries: dict[str, int]) -> Assignment:
        """Return the split of each event, and the labels."""
        at_ms = histories.occurred_at_ms
        split = np.full(len(at_ms), TRAIN_SPLIT, dtype=np.int8)
        split[at_ms >= boundaries["validation_from_ms"]] = VALIDATION_SPLIT
        split[at_ms >= boundaries["test_from_ms"]] = TEST_SPLIT
        return Assignment(split, histories.target)


class Given:
    """What the log's publisher set apart is test; a little of the rest validates.

    Validation asks the same kind of question as test: of the users drawn for it, the last event (in a log without
    order, any one event) of a type that is held out validates. Where what a user had before is no answer, the question
    is put before the user first touched that item: a shop's visitor has nearly always looked at what is bought, so the
    purchase itself would ask which of the seen things it is. In an ordered log what follows up to the held-out events
    is neither trained on nor asked for.

    Args:
        validation_share: Share of the users drawn for validation, 0 to 1. The others train with all they have.
        seed: Decides which users are drawn, and which event in a log without order.
    """

    kind = "given"
    vocabulary_from = "all"

    def __init__(self, *, validation_share: float = 0.1, seed: int = 0) -> None:
        if not 0 <= validation_share <= 1:
            raise ConfigurationError(f"splitting.validation_share is {validation_share}: expected 0 to 1")
        self._validation_share = validation_share
        self._seed = seed

    def boundaries(self, first_ms: int, last_ms: int) -> dict[str, int]:
        """Return nothing: the publisher separates splits, not instants."""
        return {}

    def assign(self, histories: UnsplitHistories, boundaries: dict[str, int]) -> Assignment:
        """Return the split of each event, and the labels."""
        split = np.where(histories.held_out, TEST_SPLIT, TRAIN_SPLIT).astype(np.int8)
        asked = np.unique(histories.event_type[histories.held_out & histories.target])
        may = histories.target & ~histories.held_out & np.isin(histories.event_type, asked)
        target = histories.target.copy()
        for row, user_id in enumerate(histories.user_ids):
            draw = zlib.crc32(f"{self._seed}:{user_id}".encode()) / 2**32
            if draw >= self._validation_share:
                continue
            start, stop = histories.offsets[row], histories.offsets[row + 1]
            places = start + np.flatnonzero(may[start:stop])
            if not len(places):
                continue
            if histories.ordered:
                place = _last_question(histories, places, start) if histories.filter_seen else int(places[-1])
                if place is None:
                    continue
                rest = place + np.flatnonzero(split[place:stop] == TRAIN_SPLIT)
                split[rest] = VALIDATION_SPLIT
                target[rest] = False
                target[place] = True
            else:
                split[places[zlib.crc32(f"{self._seed}:{user_id}:place".encode()) % len(places)]] = VALIDATION_SPLIT
        return Assignment(split, target)


def _last_question(histories: UnsplitHistories, places: npt.NDArray[np.int64], start: int) -> int | None:
    """Where a user first touched the item of the last of these events; None if nothing lies before any of them."""
    for place in places[::-1].tolist():
        first = start + int(np.argmax(histories.item_index[start : place + 1] == histories.item_index[place]))
        if first > start:
            return first
    return None


def _mark(split: Int8Array, start: npt.NDArray[np.int64], stop: npt.NDArray[np.int64], value: int) -> None:
    """Set the rows of several ranges ``[start, stop)`` that do not overlap."""
    length = stop - start
    rows = np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())
    split[rows] = value


def _instant(value: str | float, first_ms: int, last_ms: int, *, key: str) -> int:
    text = str(value)
    try:
        if text.startswith("-") and text.endswith("d"):
            return last_ms + 1 - round(float(text[1:-1]) * DAY_MS)
        try:
            share = float(text)
        except ValueError:
            moment = datetime.fromisoformat(text)
            return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except ValueError:
        raise ConfigurationError(
            f"{key} is {value!r}: expected a date (2026-01-30), days before the end (-1d) or a share (0.9)"
        ) from None
    if not 0 < share < 1:
        raise ConfigurationError(f"{key} is {value!r}: a share of the log's time range lies between 0 and 1")
    return round(first_ms + share * (last_ms + 1 - first_ms))


def _show(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC).isoformat(timespec="seconds")
