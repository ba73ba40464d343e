"""Raw values to small integers, in pure numpy: the same arithmetic offline and online."""

import re
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.events.schema import ATTRIBUTE_SEPARATOR
from roomrec.ids import FIRST_INDEX, PAD_INDEX

NUM_TIME_GAP_BUCKETS: Final = 34
"""0 no previous event, then 1 + floor(log2(1 + seconds)), capped: the last bucket begins at 136 years."""

NUM_WATCH_TIME_BUCKETS: Final = 18
"""0 no watch time, then 1 + floor(log2(1 + seconds)), capped at 18 hours."""

NUM_PRICE_BANDS: Final = 34
"""0 no price, then 1 + floor(log2(1 + cents)), capped."""

NUM_TITLE_TOKENS: Final = 4096
"""Rows of the hashed title-word table, PAD included."""

_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+")


def time_gap_buckets(occurred_at_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bucket the time since the previous event of one user.

    Args:
        occurred_at_ms: Instants, oldest first, shape ``[n]``.

    Returns:
        Buckets ``[n]`` int64; the first is 0.

    Example:
        >>> time_gap_buckets(np.array([0, 0, 1_000, 61_000]))
        array([0, 1, 2, 6])
    """
    buckets = np.zeros(len(occurred_at_ms), dtype=np.int64)
    if len(occurred_at_ms) > 1:
        buckets[1:] = _log2_bucket(np.diff(occurred_at_ms) // 1000, NUM_TIME_GAP_BUCKETS)
    return buckets


def ages_s(occurred_at_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count whole seconds from each event of one user to the newest.

    Args:
        occurred_at_ms: Instants, oldest first, shape ``[n]``.

    Example:
        >>> ages_s(np.array([0, 999, 61_000]))
        array([61, 60,  0])
    """
    return (occurred_at_ms[-1:] - occurred_at_ms) // 1000


def watch_time_buckets(watch_time_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bucket watch times; negative means unknown and gives 0.

    Example:
        >>> watch_time_buckets(np.array([-1, 0, 3_000, 600_000]))
        array([ 0,  1,  3, 10])
    """
    known = watch_time_ms >= 0
    return np.where(known, _log2_bucket(np.maximum(watch_time_ms, 0) // 1000, NUM_WATCH_TIME_BUCKETS), 0)


def time_gap_bucket(gap_ms: int) -> int:
    """Bucket one time since the previous event as ``time_gap_buckets`` does, without the cost of an array.

    Args:
        gap_ms: At least 0.

    Example:
        >>> [time_gap_bucket(gap_ms) for gap_ms in (0, 1_000, 60_000)]
        [1, 2, 6]
    """
    return _log2_bucket_of_one(gap_ms // 1000, NUM_TIME_GAP_BUCKETS)


def watch_time_bucket(watch_time_ms: int) -> int:
    """Bucket one watch time as ``watch_time_buckets`` does, without the cost of an array.

    Example:
        >>> [watch_time_bucket(watch_time_ms) for watch_time_ms in (-1, 0, 3_000, 600_000)]
        [0, 1, 3, 10]
    """
    return 0 if watch_time_ms < 0 else _log2_bucket_of_one(watch_time_ms // 1000, NUM_WATCH_TIME_BUCKETS)


def price_bands(price_cents: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bucket prices on a log scale; negative means unknown and gives 0.

    Example:
        >>> price_bands(np.array([-1, 0, 999, 1_990]))
        array([ 0,  1, 10, 11])
    """
    return np.where(price_cents >= 0, _log2_bucket(np.maximum(price_cents, 0), NUM_PRICE_BANDS), 0)


def title_tokens(title: str | None, *, title_length: int) -> npt.NDArray[np.int64]:
    """Hash the words of a title (a Chinese character is a word) into a bag.

    Args:
        title: Any text, or None.
        title_length: Places in the bag; later words are dropped.

    Returns:
        Hashed words, shape ``[title_length]`` int64, padded on the right with ``PAD_INDEX``.

    Example:
        >>> title_tokens("Silk, SILK", title_length=3)
        array([2310, 2310,    0])
    """
    bag = np.full(title_length, PAD_INDEX, dtype=np.int64)
    if title:
        for place, word in enumerate(_WORD.findall(title.lower())[:title_length]):
            bag[place] = FIRST_INDEX + zlib.crc32(word.encode()) % (NUM_TITLE_TOKENS - FIRST_INDEX)
    return bag


def split_attributes(attributes: str | None) -> list[str]:
    """Return the tags of an item, each once, in the order given.

    Example:
        >>> split_attributes("brand:northwind| silk ||silk")
        ['brand:northwind', 'silk']
    """
    if not attributes:
        return []
    tags = (tag.strip() for tag in attributes.split(ATTRIBUTE_SEPARATOR))
    return list(dict.fromkeys(tag for tag in tags if tag))


def _log2_bucket(values: npt.NDArray[np.int64], num_buckets: int) -> npt.NDArray[np.int64]:
    """1 + floor(log2(1 + value)), exact for whole numbers, at most ``num_buckets - 1``."""
    _, exponent = np.frexp((np.minimum(values, 2**52) + 1).astype(np.float64))
    return np.minimum(exponent.astype(np.int64), num_buckets - 1)


def _log2_bucket_of_one(value: int, num_buckets: int) -> int:
    """As ``_log2_bucket``; a whole number has 1 + floor(log2) bits."""
    return min((value + 1).bit_length(), num_buckets - 1)
