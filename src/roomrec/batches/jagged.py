"""Users and items as rows of one KeyedJaggedTensor, the form in which TorchRec looks up and shards embeddings.

Legend: B users, C items.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from roomrec.batches.collate import Stretches
from roomrec.ids import PAD_INDEX
from roomrec.sequences.dataset import ItemTable
from roomrec.sequences.histories import Histories

USER_KEYS: Final = ("user", "history_streamer", "history_product")
"""Features of a user: the id, and the streamers and products of the history."""

ITEM_KEYS: Final = ("streamer", "product", "category", "title", "price_band", "attributes")
"""Features of an item, named as in ITEM_INPUTS."""

Int64Array = npt.NDArray[np.int64]


def join_users_and_items(
    histories: Histories, *, row: Int64Array, stretches: Stretches, items: ItemTable, item_index: Int64Array
) -> KeyedJaggedTensor:
    """Lay users and items one below the other, so that shared tables are looked up once for both.

    Padding is left out: a user row has no item features and the other way round, and both may have empty bags.

    Args:
        histories: Everybody's events.
        row: The user of each example, shape ``[B]``.
        stretches: The history of each example.
        items: All items.
        item_index: Items to encode, shape ``[C]``.

    Returns:
        Keys ``USER_KEYS + ITEM_KEYS``, B + C rows.
    """
    num_users, num_items = len(row), len(item_index)
    features = [
        _bags(histories.user_index[row], np.arange(num_users), num_users),
        _bags(histories.streamer_index[stretches.place], stretches.example, num_users),
        _bags(histories.product_index[stretches.place], stretches.example, num_users),
    ]
    values = [values for values, _ in features]
    lengths = [np.concatenate([length, np.zeros(num_items, dtype=np.int64)]) for _, length in features]
    for name in ITEM_KEYS:
        column = getattr(items, name)[item_index].reshape(num_items, -1)
        of = np.repeat(np.arange(num_items), column.shape[1])
        bag_values, length = _bags(column.ravel(), of, num_items)
        values.append(bag_values)
        lengths.append(np.concatenate([np.zeros(num_users, dtype=np.int64), length]))
    return KeyedJaggedTensor(
        keys=[*USER_KEYS, *ITEM_KEYS],
        values=torch.from_numpy(np.concatenate(values)),
        lengths=torch.from_numpy(np.concatenate(lengths)),
        length_per_key=[len(one) for one in values],  # or the model would ask the device for them, and wait
    )


def _bags(values: npt.NDArray[np.integer], of: Int64Array, num_bags: int) -> tuple[Int64Array, Int64Array]:
    """Leave out padding; ``of`` says, ascending, which bag a value belongs to."""
    real = values != PAD_INDEX
    return values[real].astype(np.int64), np.bincount(of[real], minlength=num_bags).astype(np.int64)
