"""One log as every contender gets it: leave-one-out, items numbered from 0, read with numpy alone."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


class Log(NamedTuple):
    """Whole histories of U users, one after another, each oldest first, T events of V items in all.

    Of each user the last event is the test item, the one before it the validation item; earlier ones are for training.
    """

    user_ids: Int64Array
    """[U] as in the file"""
    item_ids: Int64Array
    """[V] as in the file, ascending"""
    offsets: Int64Array
    """[U + 1]"""
    items: Int64Array
    """[T] places in ``item_ids``"""

    def stops(self, part: str) -> Int64Array:
        """Return where the history ends that may be known when asked for ``train``, ``validation`` or ``test``."""
        held_out = {"train": 2, "validation": 2, "test": 1}[part]
        return self.offsets[1:] - held_out

    def targets(self, part: str) -> Int64Array:
        """Return what ``validation`` or ``test`` asks for, ``[U]``."""
        return self.items[self.stops(part)]

    def newest(self, user: int, *, part: str, length: int) -> Int64Array:
        """Return the newest events of a user before what a part asks for, at most ``length``."""
        stop = int(self.stops(part)[user])
        return self.items[max(int(self.offsets[user]), stop - length) : stop]

    def targets_of_pass(self, length: int | None = None) -> int:
        """Count the events of training that can be predicted from an earlier one.

        Args:
            length: The most of each user, the newest ones; None counts all.
        """
        counts = np.maximum(self.stops("train") - self.offsets[:-1] - 1, 0)
        return int((counts if length is None else np.minimum(counts, length)).sum())


def read_text(path: Path) -> Log:
    """Read lines ``user item item ...``, plain or gzipped.

    Raises:
        ValueError: If a user has fewer than 3 events, which leaves nothing to learn from.
    """
    users, lengths, parts = [], [], []
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
        for line in lines:
            numbers = np.array(line.split(), dtype=np.int64)
            if len(numbers) < 4:
                raise ValueError(
                    f"{path}: user {line.split()[:1]} has {len(numbers) - 1} events, at least 3 are needed"
                )
            users.append(int(numbers[0]))
            lengths.append(len(numbers) - 1)
            parts.append(numbers[1:])
    item_ids, items = np.unique(np.concatenate(parts), return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Log(np.array(users), item_ids, offsets.astype(np.int64), items.astype(np.int64))


def save(log: Log, path: Path) -> None:
    """Write a log for workers."""
    np.savez(path, **log._asdict())


def load(path: Path) -> Log:
    """Read what ``save`` wrote."""
    with np.load(path) as arrays:
        return Log(**{name: arrays[name] for name in Log._fields})


def sample_users(log: Log, number: int, *, seed: int) -> Int64Array:
    """Choose users, the same for the same seed, ascending; 0 takes all."""
    num_users = len(log.user_ids)
    if not 0 < number < num_users:
        return np.arange(num_users)
    return np.sort(np.random.default_rng(seed).choice(num_users, size=number, replace=False))
