"""Which examples make up which batch: a pure function of seed and epoch, so that any step can be reached at once."""

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

_BATCHES_SORTED_TOGETHER = 50


class LengthBuckets:
    """Shuffles examples into batches of similar length, so that little of a batch is padding.

    Each epoch shuffles all examples, sorts pools of fifty batches by length, cuts them into batches and shuffles
    those. The last batch may be smaller.

    Args:
        length: Length of each example, shape ``[E]``.
        batch_size: Examples of a batch.
        seed: Together with the epoch it fixes the order.

    Raises:
        ValueError: If there is no example or ``batch_size`` is below 1.
    """

    def __init__(self, length: Int64Array, *, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, received {batch_size}")
        if not len(length):
            raise ValueError("length is empty: there is nothing to batch")
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = -1
        self._order: Int64Array = np.empty(0, dtype=np.int64)
        self._batches: Int64Array = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return -(-len(self._length) // self._batch_size)

    def batch(self, epoch: int, step: int) -> Int64Array:
        """Return the examples of one batch.

        Args:
            epoch: Counted from 0.
            step: Place in the epoch, below ``len(self)``.
        """
        if epoch != self._epoch:
            self._shuffle(epoch)
        first = self._batches[step] * self._batch_size
        return self._order[first : first + self._batch_size]

    def _shuffle(self, epoch: int) -> None:
        rng = np.random.default_rng((self._seed, epoch))
        order = rng.permutation(len(self._length))
        pool = np.arange(len(order)) // (self._batch_size * _BATCHES_SORTED_TOGETHER)
        self._order = order[np.lexsort((self._length[order], pool))]
        self._batches = rng.permutation(len(self))
        self._epoch = epoch
