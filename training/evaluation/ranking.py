"""Queries to ranks, in chunks: the core that evaluation and the validation callback of training share.

Example::

    dataset = ProcessedDataset.open(path)
    queries = dataset.queries("validation", max_queries=20_000)
    scorer = EncoderScorer(dataset, user_encoder=..., item_encoder=..., max_sequence_length=50)
    ranking = rank_queries(dataset, queries, scorer, num_shown=0)
    ndcg(ranking.ranks, queries.target_offsets, k=10).mean()
"""

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from roomrec.ids import PAD_INDEX
from roomrec.metrics import pessimistic_ranks
from roomrec.sequences.dataset import ProcessedDataset
from roomrec.sequences.queries import Queries, select_queries
from training.evaluation.candidates import Candidates

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class ChunkScores(Protocol):
    """Scores of some queries, computed when asked for."""

    def matrix(self, candidates: Int64Array) -> Float32Array:
        """Score the same candidates ``[C]`` for each query of the chunk, ``[b, C]``; the caller may write into it."""
        ...

    def row(self, place: int, candidates: Int64Array) -> Float32Array:
        """Score candidates ``[C]`` for the query at a place of the chunk, ``[C]``."""
        ...


class Scorer(Protocol):
    """Anything that can order candidates: a model or a baseline, fitted before it is asked anything."""

    name: str

    def prepare(self, queries: Queries) -> ChunkScores:
        """Get ready to score these b queries, by what is known when they are asked."""
        ...


class Ranking(NamedTuple):
    """What a scorer made of Q queries with T targets in all."""

    ranks: Int64Array
    """[T] from 1, ties counted against the scorer"""
    num_candidates: Int64Array
    """[Q]"""
    shown: Int64Array
    """[Q, num_shown] items, best first, PAD where there are fewer"""
    candidate_seen: npt.NDArray[np.bool_]
    """[V] whether an item was a candidate of any query"""


def rank_queries(
    dataset: ProcessedDataset,
    queries: Queries,
    scorer: Scorer,
    *,
    num_shown: int,
    candidates: Candidates | None = None,
) -> Ranking:
    """Rank the targets of every query among all its candidates: no sampled negatives.

    Args:
        dataset: Where the queries come from.
        queries: What is asked.
        scorer: Who answers.
        num_shown: How many of the best items to return for each query; 0 saves time when only ranks are wanted.
        candidates: As made of the same dataset and queries; made here if not given.

    Returns:
        Ranks, candidate counts and the best items of each query, in the order of ``queries``.
    """
    candidates = candidates or Candidates(dataset, queries)
    ranks = np.zeros(len(queries.targets), dtype=np.int64)
    num_candidates = np.zeros(len(queries.row), dtype=np.int64)
    shown = np.full((len(queries.row), num_shown), PAD_INDEX, dtype=np.int64)
    candidate_seen = np.zeros(len(dataset.items.kind), dtype=bool)
    for group in candidates.groups:
        if group.shared is not None:
            candidate_seen[group.shared] = True
        for chunk in candidates.chunks(group):
            scores = scorer.prepare(select_queries(queries, chunk))
            matrix = None if group.shared is None else scores.matrix(group.shared)
            for place, query in enumerate(chunk):
                if matrix is None or group.shared is None:
                    items = candidates.of(query)
                    candidate_seen[items] = True
                    row = scores.row(place, items)
                else:
                    items, row = group.shared, matrix[place]
                    if dataset.filter_seen:
                        row[np.searchsorted(items, candidates.seen(query))] = -np.inf
                targets = slice(queries.target_offsets[query], queries.target_offsets[query + 1])
                ranks[targets] = pessimistic_ranks(row, np.searchsorted(items, queries.targets[targets]))
                num_candidates[query] = len(items)
                if num_shown:
                    best = best_first(row, num_shown)
                    shown[query, : len(best)] = items[best]
    return Ranking(ranks, num_candidates, shown, candidate_seen)


def best_first(scores: Float32Array, k: int) -> Int64Array:
    """Return the places of the k highest scores that are finite, highest first; of equal ones any.

    Example:
        >>> best_first(np.array([0.1, 0.9, -np.inf, 0.5], dtype=np.float32), 3)
        array([1, 3, 0])
    """
    kept = min(k, len(scores))
    places = np.argpartition(scores, len(scores) - kept)[len(scores) - kept :] if kept else np.empty(0, dtype=np.int64)
    places = places[np.isfinite(scores[places])]
    return places[np.argsort(-scores[places], kind="stable")]
