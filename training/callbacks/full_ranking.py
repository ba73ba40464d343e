"""Validation by full ranking after every epoch: the metrics that choose between checkpoints."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from roomrec.batches.collate import collate_histories, collate_items
from roomrec.ids import FIRST_INDEX
from roomrec.metrics.hit_rate import hit_rate
from roomrec.metrics.ndcg import ndcg
from roomrec.metrics.ranks import pessimistic_ranks
from roomrec.metrics.recall import recall
from roomrec.sequences.dataset import ProcessedDataset, Queries

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class FullRankingValidation(Callback):
    """Ranks what users of the validation split chose among everything they could have chosen.

    In a live log the candidates are the items of that kind available at that moment (in that room, for a product chosen
    in a room); elsewhere all items of the kind, less those the user had before where the dataset says so.

    Args:
        dataset: Where queries, items and availability come from.
        max_sequence_length: Newest events shown to the user encoder.
        max_queries: Size of the fixed sample of queries.
        ks: Depths of the metrics.
        chunk_size: Users, and items, encoded at once.
    """

    def __init__(
        self,
        *,
        dataset: ProcessedDataset,
        max_sequence_length: int,
        max_queries: int,
        ks: Sequence[int],
        chunk_size: int,
    ) -> None:
        self._dataset = dataset
        self._max_sequence_length = max_sequence_length
        self._ks = list(ks)
        self._chunk_size = chunk_size
        self._queries = sample_queries(dataset.queries("validation"), max_queries=max_queries)
        live = dataset.knows_availability
        self._candidates = [self._live_candidates(nth) for nth in range(len(self._queries.row))] if live else None
        self._encoded = (
            np.unique(np.concatenate(self._candidates))
            if self._candidates is not None
            else np.flatnonzero(dataset.items.kind > 0)
        )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log HR, NDCG and recall."""
        metrics = self.measure(pl_module.model)
        pl_module.log_dict({f"val_{name}": value for name, value in metrics.items()}, sync_dist=True)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return the metrics of a model, e.g. ``{"ndcg@10": 0.05, ...}``."""
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            ranks, counts = self._rank_all(model)
        model.train(was_training)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        metrics = {}
        for k in self._ks:
            metrics[f"ndcg@{k}"] = float(ndcg(ranks, offsets, k=k).mean()) if len(counts) else 0.0
            metrics[f"hr@{k}"] = float(hit_rate(ranks, offsets, k=k).mean()) if len(counts) else 0.0
            metrics[f"recall@{k}"] = float(recall(ranks, offsets, k=k).mean()) if len(counts) else 0.0
        return metrics

    def _rank_all(self, model: nn.Module) -> tuple[Int64Array, Int64Array]:
        """Ranks of all targets of the queries that have candidates, and the number of targets of each."""
        vectors = torch.cat(list(self._encode_items(model)))
        ranks, counts = [np.empty(0, dtype=np.int64)], []
        for chosen, users in self._encode_users(model):
            shared = None if self._candidates is not None else (users @ vectors.T).float().cpu().numpy()
            for place, query in enumerate(chosen):
                if shared is None:
                    scores, targets = self._score_live(query, users[place], vectors)
                else:
                    scores, targets = self._score_catalogue(query, shared[place])
                if len(targets):
                    ranks.append(pessimistic_ranks(scores, targets))
                    counts.append(len(targets))
        return np.concatenate(ranks), np.array(counts, dtype=np.int64)

    def _encode_items(self, model: nn.Module) -> Iterator[torch.Tensor]:
        device = next(model.parameters()).device
        size = self._chunk_size * 8
        for first in range(0, len(self._encoded), size):
            items = collate_items(self._dataset.items, self._encoded[first : first + size])
            yield model.item_encoder(*(tensor.to(device) for tensor in items))

    def _encode_users(self, model: nn.Module) -> Iterator[tuple[Int64Array, torch.Tensor]]:
        device = next(model.parameters()).device
        queries, histories = self._queries, self._dataset.histories
        start = np.maximum(histories.offsets[queries.row], queries.stop - self._max_sequence_length)
        by_length = np.argsort(queries.stop - start, kind="stable")
        for first in range(0, len(by_length), self._chunk_size):
            chosen = by_length[first : first + self._chunk_size]
            batch = collate_histories(
                histories, row=queries.row[chosen], start=start[chosen], stop=queries.stop[chosen]
            )
            yield chosen, model.user_encoder(*(tensor.to(device) for tensor in batch))

    def _score_catalogue(self, query: int, scores: Float32Array) -> tuple[Float32Array, Int64Array]:
        queries, dataset = self._queries, self._dataset
        targets = queries.targets[queries.target_offsets[query] : queries.target_offsets[query + 1]]
        out = dataset.items.kind[self._encoded] != queries.kind[query]
        if dataset.filter_seen:
            past = slice(dataset.histories.offsets[queries.row[query]], queries.stop[query])
            seen = np.setdiff1d(dataset.histories.item_index[past], targets)
            seen = seen[seen >= FIRST_INDEX]
            out[np.searchsorted(self._encoded, seen)] = True
        scores[out] = -np.inf
        return scores, np.searchsorted(self._encoded, targets)

    def _score_live(self, query: int, user: torch.Tensor, vectors: torch.Tensor) -> tuple[Float32Array, Int64Array]:
        assert self._candidates is not None
        queries, candidates = self._queries, self._candidates[query]
        targets = queries.targets[queries.target_offsets[query] : queries.target_offsets[query + 1]]
        targets = np.flatnonzero(np.isin(candidates, targets))
        if not len(targets):
            return np.empty(0, dtype=np.float32), targets
        rows = torch.from_numpy(np.searchsorted(self._encoded, candidates)).to(vectors.device)
        return (vectors[rows] @ user).float().cpu().numpy(), targets

    def _live_candidates(self, query: int) -> Int64Array:
        queries = self._queries
        room = int(queries.room_item_index[query])
        return self._dataset.availability.available_at(
            int(queries.at_ms[query]), kind=int(queries.kind[query]), room_item_index=room or None
        )


def sample_queries(queries: Queries, *, max_queries: int) -> Queries:
    """Take a fixed random sample of queries, in their order; all of them if there are no more.

    Args:
        queries: All queries of a split.
        max_queries: The most to take.
    """
    num_queries = len(queries.row)
    if num_queries <= max_queries:
        return queries
    chosen = np.sort(np.random.default_rng(0).choice(num_queries, size=max_queries, replace=False))
    counts = np.diff(queries.target_offsets)[chosen]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    places = np.repeat(queries.target_offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
    return Queries(
        row=queries.row[chosen],
        stop=queries.stop[chosen],
        at_ms=queries.at_ms[chosen],
        target_offsets=offsets,
        targets=queries.targets[places],
        room_item_index=queries.room_item_index[chosen],
        kind=queries.kind[chosen],
    )
