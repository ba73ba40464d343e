"""Blends of scorers: opinions that are made comparable, weights that are fitted, and what comes out."""

import math

import numpy as np
import pytest

from roomrec.errors import ConfigurationError
from roomrec.metrics import ndcg
from roomrec.sequences.dataset import ProcessedDataset
from training.evaluation.blend_fitting import Examples, learn_weights, mean_ndcg, search_weights
from training.evaluation.hybrid import Hybrid, Learned, Weighted, compress, standardize
from training.evaluation.item_knn import ItemKnn
from training.evaluation.popularity import Popularity
from training.evaluation.ranking import rank_queries


class Half:
    """Knows the targets of every other query, and nothing of the others."""

    def __init__(self, queries, which: int, *, name: str) -> None:
        self.name = name
        self._target = dict(zip(queries.stop.tolist(), queries.targets.tolist(), strict=True))
        self._which = which

    def prepare(self, queries):
        self._queries = queries
        return self

    def matrix(self, candidates):
        return np.stack([self.row(place, candidates) for place in range(len(self._queries.row))])

    def row(self, place, candidates):
        stop = int(self._queries.stop[place])
        knows = stop % 2 == self._which
        return (candidates == (self._target[stop] if knows else -1)).astype(np.float32) * 1000


def test_opinions_are_made_comparable():
    one_of_four = standardize(np.array([[0, 0, 0, 4]], dtype=np.float32))[0].tolist()
    assert one_of_four == pytest.approx([-0.5774, -0.5774, -0.5774, 1.7321], abs=1e-4)
    assert standardize(np.array([[7.0, 7.0]], dtype=np.float32)).tolist() == [[0, 0]]
    assert compress(np.array([math.e - 1, 1 - math.e], dtype=np.float32)).tolist() == pytest.approx([1, -1])


def examples(*rows: tuple[list[list[float]], int]) -> Examples:
    return Examples.of(
        [
            (np.array(features, dtype=np.float32), np.arange(len(features)) == target, np.ones(len(features)))
            for features, target in rows
        ]
    )


def test_ndcg_of_a_blend_by_hand():
    both = examples(([[3, 0], [2, 9], [1, 0]], 1), ([[1, 0], [5, 0]], 1))
    # by the first feature the targets stand second and first; by the second first, and behind an equal one
    assert mean_ndcg(both, np.array([1.0, 0.0]), k=10) == pytest.approx((1 / math.log2(3) + 1) / 2)
    assert mean_ndcg(both, np.array([0.0, 1.0]), k=10) == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert mean_ndcg(both, np.array([0.0, 1.0]), k=1) == pytest.approx(0.5)


def test_the_search_finds_what_orders_best():
    # alone each feature has one of two queries right; halves have both
    both = examples(([[1, 0], [0, 3], [0, 0]], 1), ([[2, 0], [0, 1], [0, 0]], 0))
    weights = search_weights(both, k=10)
    assert weights.sum() == pytest.approx(1)
    assert mean_ndcg(both, weights, k=10) == 1.0
    assert weights.min() > 0
    # a feature that says nothing gets nothing
    assert search_weights(examples(([[0, 5], [0, 1]], 0)), k=10).tolist() == [0, 1]


def test_learned_weights_by_hand():
    # one feature, two candidates; the chosen one has it three times out of four: weight = log 3
    rows = [([[1], [0]], 0)] * 3 + [([[1], [0]], 1)]
    assert learn_weights(examples(*rows), regularization=0.0)[0] == pytest.approx(math.log(3), abs=1e-3)
    assert 0 < learn_weights(examples(*rows), regularization=1.0)[0] < math.log(3) / 2
    # what is not chosen speaks for three others of its kind: odds of three to three
    many = Examples.of(
        [
            (np.array(features, dtype=np.float32), np.arange(2) == target, np.array([1.0, 3.0]))
            for features, target in rows
        ]
    )
    assert learn_weights(many, regularization=0.0)[0] == pytest.approx(math.log(9), abs=1e-3)


@pytest.mark.parametrize("blend", [Weighted(), Learned(regularization=1e-6)])
def test_two_halves_make_a_whole(live_dataset, blend):
    dataset = ProcessedDataset.open(live_dataset)
    fitted_on, asked = dataset.queries("validation"), dataset.queries("test")
    parts = [Half(dataset.queries("validation"), which, name=f"half{which}") for which in (0, 1)]
    hybrid = Hybrid(dataset, fitted_on, parts=parts, blend=blend)
    hybrid.parts = [Half(asked, which, name=f"half{which}") for which in (0, 1)]
    assert set(rank_queries(dataset, asked, hybrid, num_shown=0).ranks.tolist()) == {1}


@pytest.mark.parametrize("blend", [Weighted(), Learned()])
def test_a_blend_is_no_worse_than_its_best_part(markov_dataset, blend):
    dataset = ProcessedDataset.open(markov_dataset)
    parts = [Popularity(dataset), ItemKnn(dataset)]
    queries = dataset.queries("test")
    hybrid = Hybrid(dataset, dataset.queries("validation"), parts=parts, blend=blend)
    blended, *alone = (
        ndcg(rank_queries(dataset, queries, scorer, num_shown=0).ranks, queries.target_offsets, k=10).mean()
        for scorer in (hybrid, *parts)
    )
    assert blended > max(alone) - 0.02


def test_a_kind_that_was_not_fitted_is_refused(markov_dataset):
    dataset = ProcessedDataset.open(markov_dataset)
    queries = dataset.queries("test")
    hybrid = Hybrid(dataset, dataset.queries("validation"), parts=[Popularity(dataset)], blend=Weighted())
    with pytest.raises(ConfigurationError, match="hybrid was fitted on a validation split without queries of kind 1"):
        hybrid.prepare(queries._replace(kind=np.ones_like(queries.kind)))
