"""RoomRec as its users run it: ``training.train`` with the configuration in ``configs/`` and a few settings."""

from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from pytorch_lightning import Callback

import training.trainer
from roomrec.sequences.dataset import ProcessedDataset
from scripts.bench_training.logs import Int64Array, Log
from scripts.bench_training.pacing import Count
from scripts.bench_training.scoring import Vectors
from training import train
from training.configuration import CONFIGS
from training.evaluation.encoder_scorer import encode_items, encode_users


class Contender:
    """A RoomRec model on one log.

    Args:
        spec: Settings of ``configs/train.yaml`` in ``overrides``, the folder of the processed dataset in ``dataset``.
        log: The data.
    """

    callback_class = Callback

    def __init__(self, spec: dict[str, Any], log: Log) -> None:
        self._spec = spec
        self._log = log
        self._dataset = ProcessedDataset.open(Path(spec["dataset"]))

    def train(self, callback: Any) -> None:
        """Run the job with the callback first among its callbacks."""
        spec = self._spec
        settings = {
            "dataset": spec["dataset"],
            "runs_dir": spec["folder"],
            "name": "run",
            "seed": spec["seed"],
            "overwrite": "true",
        }
        overrides = [f"{name}={value}" for name, value in settings.items()] + spec["overrides"]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose("train", overrides=overrides)
        build = training.trainer.build_trainer

        def build_and_pace(*arguments: Any, **settings: Any) -> Any:
            trainer = build(*arguments, **settings)
            trainer.callbacks.insert(0, callback)
            return trainer

        training.trainer.build_trainer = build_and_pace
        train.run(config)

    def count(self, batch: Any) -> Count:
        """Count windows, targets and places."""
        places = batch.history.event_type
        return Count(len(places), len(batch.candidates.positive), places.numel())

    def vectors(self, module: Any, users: Int64Array, part: str) -> Vectors:
        """Encode users and items as evaluation does."""
        dataset, log = self._dataset, self._log
        histories = dataset.histories
        row_of = {int(name): row for row, name in enumerate(self._user_ids())}
        row = np.array([row_of[int(log.user_ids[user])] for user in users])
        stop = histories.offsets[row + 1] - {"validation": 2, "test": 1}[part]
        encoded = encode_users(
            module.evaluated.user_encoder, dataset, row=row, stop=stop, max_sequence_length=self._spec["length"]
        )
        items = encode_items(module.evaluated.item_encoder, dataset)
        place = np.zeros(len(log.item_ids), dtype=np.int64)
        product_ids = np.array(dataset.vocabulary.ids("product").to_pylist(), dtype=np.int64)
        seen = histories.product_index >= 2
        place[np.searchsorted(log.item_ids, product_ids[histories.product_index[seen] - 2])] = histories.item_index[
            seen
        ]
        return Vectors(encoded, items[place], place > 0)

    def described(self) -> dict[str, Any]:
        """Return how it was configured."""
        return {"command": " ".join(["python -m training.train", *self._spec["overrides"]])}

    def _user_ids(self) -> list[str]:
        names = self._dataset.vocabulary.ids("user").to_pylist()
        return [names[index - 2] for index in self._dataset.histories.user_index]
