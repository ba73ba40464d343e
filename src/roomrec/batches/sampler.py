"""Which examples make up which batch: a pure function of seed and epoch, so that any step can be reached at once."""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

_BATCHES_SORTED_TOGETHER = 50

MAX_POOL = 1 << 20
"""Examples that are shuffled together, about 60 MB of memory: all there are, or the buffer of those that stream."""


class Examples(NamedTuple):
    """E examples, as rows of a few columns."""

    length: Int64Array
    """[E] places each takes in a batch"""
    columns: tuple[Int64Array, ...]
    """each [E]"""


class ExampleBlocks(Protocol):
    """All examples, found block by block."""

    counts: Int64Array
    """[blocks] examples of each block"""

    def block(self, number: int) -> Examples:
        """Return the examples of a block, the same whenever it is asked for."""
        ...


class LengthBuckets:
    """Shuffles examples into batches of similar length, so that little of a batch is padding.

    An epoch is a stream of blocks in random order, cut into pools of at most ``max_pool`` examples. Each pool is
    shuffled, sorted by length in stretches of fifty batches, cut into batches, and those are shuffled. Only one pool
    is held in memory; what fits in one is shuffled as a whole. The last batch may be smaller.

    Args:
        blocks: Where examples come from.
        batch_size: Examples of a batch.
        seed: Together with the epoch it fixes the order.
        max_pool: Examples of a pool; rounded down to whole stretches of fifty batches, of which it holds at least one.

    Raises:
        ValueError: If there is no example or ``batch_size`` is below 1.
    """

    def __init__(self, blocks: ExampleBlocks, *, batch_size: int, seed: int, max_pool: int = MAX_POOL) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, received {batch_size}")
        self._num_examples = int(blocks.counts.sum())
        if not self._num_examples:
            raise ValueError("blocks hold no example: there is nothing to batch")
        stretch = batch_size * _BATCHES_SORTED_TOGETHER
        self._blocks = blocks
        self._batch_size = batch_size
        self._seed = seed
        self._pool_size = max(max_pool // stretch, 1) * stretch
        self._pool = (-1, -1)
        self._columns: tuple[Int64Array, ...] = ()
        self._batches: Int64Array = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return -(-self._num_examples // self._batch_size)

    def batch(self, epoch: int, step: int) -> tuple[Int64Array, ...]:
        """Return the examples of one batch, column by column.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        pool, nth = divmod(step, self._pool_size // self._batch_size)
        if (epoch, pool) != self._pool:
            self._shuffle(epoch, pool)
        first = self._batches[nth] * self._batch_size
        return tuple(column[first : first + self._batch_size] for column in self._columns)

    def _shuffle(self, epoch: int, pool: int) -> None:
        self._columns = ()  # the last pool goes before the next one comes
        examples = self._read(epoch, pool)
        num_examples = len(examples.length)
        rng = np.random.default_rng((self._seed, epoch, 0, pool))
        order = rng.permutation(num_examples)
        stretch = np.arange(num_examples) // (self._batch_size * _BATCHES_SORTED_TOGETHER)
        order = order[np.lexsort((examples.length[order], stretch))]
        self._columns = tuple(column[order] for column in examples.columns)
        self._batches = rng.permutation(-(-num_examples // self._batch_size))
        self._pool = (epoch, pool)

    def _read(self, epoch: int, pool: int) -> Examples:
        """Cut a pool out of the epoch's stream of blocks."""
        counts = self._blocks.counts
        order = np.arange(len(counts))
        if self._num_examples > self._pool_size:
            order = np.random.default_rng((self._seed, epoch, 1)).permutation(order)
        stops = np.cumsum(counts[order])
        first, stop = pool * self._pool_size, min((pool + 1) * self._pool_size, self._num_examples)
        parts = []
        for place in range(int(np.searchsorted(stops, first, side="right")), len(order)):
            begin = int(stops[place] - counts[order[place]])
            if begin >= stop:
                break
            cut = slice(max(first - begin, 0), stop - begin)
            block = self._blocks.block(int(order[place]))
            parts.append(Examples(block.length[cut], tuple(column[cut] for column in block.columns)))
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.columns for part in parts), strict=True)
        return Examples(
            np.concatenate([part.length for part in parts]), tuple(np.concatenate(column) for column in columns)
        )
