"""Validation by full ranking after every epoch: the metrics that choose between checkpoints."""

from collections.abc import Sequence

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from roomrec.metrics.hit_rate import hit_rate
from roomrec.metrics.ndcg import ndcg
from roomrec.metrics.recall import recall
from roomrec.sequences.dataset import ProcessedDataset
from training.evaluation.candidates import Candidates
from training.evaluation.encoder_scorer import EncoderScorer
from training.evaluation.ranking import rank_queries


class FullRankingValidation(Callback):
    """Measures the validation split as evaluation measures the test split, on a fixed sample of its queries.

    Args:
        dataset: Where queries, items and availability come from.
        max_sequence_length: Newest events shown to the user encoder.
        max_queries: Size of the sample; None takes all.
        ks: Depths of the metrics.
    """

    def __init__(
        self, *, dataset: ProcessedDataset, max_sequence_length: int, max_queries: int | None, ks: Sequence[int]
    ) -> None:
        self._dataset = dataset
        self._max_sequence_length = max_sequence_length
        self._ks = list(ks)
        self._queries = dataset.queries("validation", max_queries=max_queries)
        self._candidates = Candidates(dataset, self._queries)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log HR, NDCG and recall."""
        whole_model = getattr(trainer.strategy, "whole_model", None)  # of tables that are split over processes
        if whole_model is None:
            metrics = self.measure(pl_module.evaluated)
        else:
            model = whole_model()
            metrics = trainer.strategy.broadcast({} if model is None else self.measure(model))
        pl_module.log_dict({f"val_{name}": value for name, value in metrics.items()}, sync_dist=True)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return the metrics of a model, e.g. ``{"ndcg@10": 0.05, ...}``."""
        scorer = EncoderScorer(
            self._dataset,
            user_encoder=model.user_encoder,
            item_encoder=model.item_encoder,
            max_sequence_length=self._max_sequence_length,
            device=next(model.parameters()).device,
        )
        ranks = rank_queries(self._dataset, self._queries, scorer, num_shown=0, candidates=self._candidates).ranks
        offsets = self._queries.target_offsets
        metrics = {"ndcg": ndcg, "hr": hit_rate, "recall": recall}
        return {
            f"{name}@{k}": float(metric(ranks, offsets, k=k).mean())
            for k in self._ks
            for name, metric in metrics.items()
        }
