"""The simulator's truth as a scorer: the ceiling of what any model can reach on a simulated log."""

import json
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from roomrec.errors import DatasetError
from roomrec.ids import FIRST_INDEX
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries
from roomrec.simulator.config import WorldConfig
from roomrec.simulator.world import World

_STRANGERS: Final = 64

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class Truth:
    """Ranks by the utility that decided every simulated choice.

    A choice is drawn from the softmax of the utilities, so even this is not always right. A viewer whom the vocabulary
    does not know cannot be told from others: the mean utility of some viewers stands for such a one.

    Args:
        dataset: Made of a simulated log.
        folder: The truth that ``training.simulate`` wrote beside that log.
        name: What tables call it.

    Raises:
        DatasetError: If the folder holds no truth.
    """

    def __init__(self, dataset: ProcessedDataset, folder: Path, *, name: str = "truth") -> None:
        self.name = name
        file = folder / "world.json"
        if not file.exists():
            raise DatasetError(f"{file} does not exist: simulate with `python -m training.simulate`, which writes it")
        self._world = World(WorldConfig(**json.loads(file.read_text())))
        self._users = dataset.histories.user_index
        self._vocabulary = dataset.vocabulary
        rooms, products = (dataset.item_rows[column].to_pylist() for column in ("room_id", "product_id"))
        self._item_ids = [room or product for room, product in zip(rooms, products, strict=True)]

    def prepare(self, queries: Queries) -> "_Utilities":
        """Look up who asks, and when."""
        return _Utilities(self, self._users[queries.row], queries.at_ms)

    def utility(self, user: int, at_ms: int, items: Int64Array) -> Float32Array:
        """Return the utility of items to the viewer of an index, at an instant."""
        names = [self._item_ids[item] for item in items]
        if user >= FIRST_INDEX:
            return self._world.true_utility(self._vocabulary.decode("user", user), names, at_ms)
        strangers = self._world.viewer_ids(at_ms)[:_STRANGERS]
        theirs = [self._world.true_utility(one, names, at_ms) for one in strangers]
        return np.asarray(np.mean(theirs, axis=0), dtype=np.float32)


class _Utilities:
    def __init__(self, truth: Truth, users: Int64Array, at_ms: Int64Array) -> None:
        self._truth = truth
        self._users = users
        self._at_ms = at_ms

    def matrix(self, candidates: Int64Array) -> Float32Array:
        return np.stack([self.row(place, candidates) for place in range(len(self._users))])

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        return self._truth.utility(int(self._users[place]), int(self._at_ms[place]), candidates)
