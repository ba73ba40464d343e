"""What a ranking is worth: one idea per file, numpy only."""

from roomrec.metrics.coverage import coverage
from roomrec.metrics.hit_rate import hit_rate
from roomrec.metrics.mrr import reciprocal_rank
from roomrec.metrics.ndcg import ndcg
from roomrec.metrics.novelty import novelty
from roomrec.metrics.ranks import pessimistic_ranks
from roomrec.metrics.recall import recall

__all__ = ["coverage", "hit_rate", "ndcg", "novelty", "pessimistic_ranks", "recall", "reciprocal_rank"]
