"""RePlay's current neural module as its documentation uses it: ``SasRec.from_params`` fed by a ``ParquetModule``.

``variant`` ``documented`` is that and nothing else. ``assembled`` puts together what else the library has against
work on padding: sequences trimmed to the longest of the batch, similar lengths encoded together, and, for the full
softmax, a loss that takes logits only where there is a target (``LogInCE``: with one positive the same loss up to an
epsilon of 1e-6).
"""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from lightning.pytorch.callbacks import Callback
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.parquet import ParquetModule
from replay.nn.lightning import LightningModule
from replay.nn.loss import CESampled, LogInCE
from replay.nn.sequential import LengthBucketedQueryEncoder, SasRec
from replay.nn.transform import UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms
from replay.nn.transform.trim import TargetAwareAdaptiveTrimTransform

from scripts.bench_training.logs import Int64Array, Log
from scripts.bench_training.pacing import Count
from scripts.bench_training.scoring import Vectors

_USERS_AT_ONCE = 256
_BUCKET_SIZE = 32
_PARTITION_BATCHES = 256


class Contender:
    """A RePlay model on one log.

    Args:
        spec: Sizes, loss and variant.
        log: The data.
    """

    callback_class = Callback

    def __init__(self, spec: dict[str, Any], log: Log) -> None:
        self._spec = spec
        self._log = log
        self._num_items = len(log.item_ids)
        self._assembled = spec["variant"] == "assembled"
        self._module: LightningModule | None = None

    def train(self, callback: Any) -> None:
        """Fit until the callback stops it."""
        spec, num_items = self._spec, self._num_items
        torch.manual_seed(spec["seed"])
        schema = TensorSchema(
            [
                TensorFeatureInfo(
                    "item_id",
                    is_seq=True,
                    feature_type=FeatureType.CATEGORICAL,
                    embedding_dim=spec["embedding_dim"],
                    padding_value=num_items,
                    cardinality=num_items,
                    feature_hint=FeatureHint.ITEM_ID,
                    feature_sources=[TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")],
                )
            ]
        )
        model = SasRec.from_params(
            schema=schema,
            embedding_dim=spec["embedding_dim"],
            num_heads=spec["num_heads"],
            num_blocks=spec["num_blocks"],
            max_sequence_length=spec["length"],
        )
        transforms = {"train": make_default_sasrec_transforms(schema)["train"]}
        if spec["loss"] == "sampled":
            model.loss = CESampled(ignore_index=num_items)
            transforms["train"].append(UniformNegativeSamplingTransform(num_items, spec["num_negatives"]))
        elif self._assembled:
            model.loss = LogInCE(cardinality=num_items)
        model.loss.logits_callback = model.get_logits
        if self._assembled:
            model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, bucket_size=_BUCKET_SIZE)
            after_masks = 2  # the next-token shift and the renaming of the masks
            trim = TargetAwareAdaptiveTrimTransform(["item_id", "positive_labels"])
            transforms["train"].insert(after_masks, trim)
        self._module = LightningModule(model)
        metadata = {"train": {"item_id": {"shape": spec["length"] + 1, "padding": num_items}}}
        partition = {"partition_size": _PARTITION_BATCHES * spec["batch_size"], "generator": torch.default_generator}
        data = ParquetModule(
            batch_size=spec["batch_size"],
            metadata=metadata,
            transforms=transforms,
            config={"train": partition},
            train_path=str(self._write()),
        )
        trainer = lightning.Trainer(
            max_epochs=spec["max_epochs"],
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[callback],
        )
        trainer.fit(self._module, datamodule=data)

    def count(self, batch: dict[str, torch.Tensor]) -> Count:
        """Count rows, targets and places."""
        return Count(len(batch["padding_mask"]), int(batch["target_padding_mask"].sum()), batch["padding_mask"].numel())

    def vectors(self, module: Any, users: Int64Array, part: str) -> Vectors:
        """Encode users and items as the library does to predict."""
        model, log, length = module.model, self._log, self._spec["length"]
        was_training = module.training
        module.eval()
        found = []
        with torch.no_grad():
            items = model.body.embedder.get_item_weights(None)
            for first in range(0, len(users), _USERS_AT_ONCE):
                some = users[first : first + _USERS_AT_ONCE]
                x = torch.full((len(some), length), self._num_items, dtype=torch.int64)
                for row, user in enumerate(some):
                    history = log.newest(int(user), part=part, length=length)
                    x[row, -len(history) :] = torch.from_numpy(history)
                found.append(model.body({"item_id": x}, x != self._num_items)[:, -1, :])
        module.train(was_training)
        return Vectors(torch.cat(found).numpy(), items.numpy(), np.ones(self._num_items, dtype=bool))

    def described(self) -> dict[str, Any]:
        """Return how it was configured."""
        assert self._module is not None
        described = {
            "class": "replay.nn.sequential.SasRec.from_params",
            "loss": type(self._module.model.loss).__name__,
            "data": "ParquetModule, default transforms, batches made in the training process",
            "other settings": "its defaults",
        }
        if self._assembled:
            described["against padding"] = (
                f"TargetAwareAdaptiveTrimTransform, LengthBucketedQueryEncoder({_BUCKET_SIZE})"
            )
        return described

    def _write(self) -> Path:
        """Write the newest events of each user, one more than the length because targets are shifted by one."""
        log, length = self._log, self._spec["length"] + 1
        rows = [log.newest(user, part="train", length=length) for user in range(len(log.user_ids))]
        path = Path(self._spec["folder"]) / "replay.parquet"
        pq.write_table(pa.table({"item_id": pa.array([row.tolist() for row in rows], pa.list_(pa.int64()))}), path)
        return path
