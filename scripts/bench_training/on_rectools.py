"""RecTools as its tutorials use it: ``SASRecModel`` fitted on a ``Dataset``, its own defaults elsewhere.

Batches are made in the training process, as by default: less than a hundredth of a step, so workers gain nothing.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools.columns import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from scripts.bench_training.logs import Int64Array, Log
from scripts.bench_training.pacing import Count
from scripts.bench_training.scoring import Vectors

_USERS_AT_ONCE = 256


class Contender:
    """A RecTools model on one log.

    Args:
        spec: Sizes and loss.
        log: The data.
    """

    callback_class = Callback

    def __init__(self, spec: dict[str, Any], log: Log) -> None:
        self._spec = spec
        self._log = log
        self._settings = {
            "n_factors": spec["embedding_dim"],
            "n_blocks": spec["num_blocks"],
            "n_heads": spec["num_heads"],
            "session_max_len": spec["length"],
            "batch_size": spec["batch_size"],
            "loss": {"softmax": "softmax", "sampled": "sampled_softmax"}[spec["loss"]],
            "n_negatives": spec["num_negatives"],
            "dataloader_num_workers": 0,
        }
        self._model: SASRecModel | None = None

    def train(self, callback: Any) -> None:
        """Fit until the callback stops it."""
        torch.manual_seed(self._spec["seed"])

        def make_trainer() -> Trainer:
            return Trainer(
                max_epochs=self._spec["max_epochs"],
                accelerator="cpu",
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[callback],
            )

        self._model = SASRecModel(**self._settings, get_trainer_func=make_trainer)
        self._model.fit(Dataset.construct(self._interactions()))

    def count(self, batch: dict[str, torch.Tensor]) -> Count:
        """Count rows, targets and places."""
        return Count(len(batch["x"]), int((batch["y"] != 0).sum()), batch["x"].numel())

    def vectors(self, module: Any, users: Int64Array, part: str) -> Vectors:
        """Encode users and items as the library does to recommend."""
        assert self._model is not None
        net, log, length = module.torch_model, self._log, self._spec["length"]
        internal = np.zeros(len(log.item_ids), dtype=np.int64)  # 0 is the library's padding: an item it never saw
        item_id_map = self._model.data_preparator.item_id_map
        ids = item_id_map.get_external_sorted_by_internal()[1:].astype(np.int64)
        internal[np.searchsorted(log.item_ids, ids)] = np.arange(1, len(ids) + 1)
        was_training = module.training
        module.eval()
        found = []
        with torch.no_grad():
            items = net.item_model.get_all_embeddings()
            for first in range(0, len(users), _USERS_AT_ONCE):
                some = users[first : first + _USERS_AT_ONCE]
                x = torch.zeros(len(some), length, dtype=torch.int64)
                for row, user in enumerate(some):
                    history = internal[log.newest(int(user), part=part, length=length)]
                    history = history[history > 0]
                    if len(history):
                        x[row, -len(history) :] = torch.from_numpy(history)
                found.append(net.encode_sessions({"x": x}, items)[:, -1, :])
        module.train(was_training)
        return Vectors(torch.cat(found).numpy(), items.numpy()[internal], internal > 0)

    def described(self) -> dict[str, Any]:
        """Return how it was configured."""
        return {"class": "rectools.models.SASRecModel", **self._settings, "other settings": "its defaults"}

    def _interactions(self) -> pd.DataFrame:
        log = self._log
        stops = log.stops("train")
        lengths = stops - log.offsets[:-1]
        user = np.repeat(np.arange(len(lengths)), lengths)
        place = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return pd.DataFrame(
            {
                Columns.User: log.user_ids[user],
                Columns.Item: log.item_ids[log.items[log.offsets[user] + place]],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.to_datetime(place, unit="s"),
            }
        )
