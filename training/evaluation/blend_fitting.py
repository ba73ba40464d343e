"""Weights of blends from examples: a search for the best NDCG, and a softmax regression."""

from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

_STEPS: Final = (0.2, 0.1, 0.05)

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Examples(NamedTuple):
    """Q queries with up to C candidates of F features; what is missing is no candidate."""

    features: Float32Array
    """[Q, C, F], zeros where there is no candidate"""
    is_candidate: BoolArray
    """[Q, C]"""
    is_target: BoolArray
    """[Q, C] what was chosen"""
    stands_for: Float32Array
    """[Q, C] how many candidates each speaks for: one drawn at random also for those that were not drawn"""

    @classmethod
    def of(cls, rows: Sequence[tuple[Float32Array, BoolArray, Float32Array]]) -> Self:
        """Lay queries of different sizes side by side.

        Args:
            rows: For each query its features ``[c, F]``, which of them are targets ``[c]`` and how many each stands
                for ``[c]``.
        """
        width = max(len(features) for features, *_ in rows)
        features = np.zeros((len(rows), width, rows[0][0].shape[1]), dtype=np.float32)
        is_candidate = np.zeros((len(rows), width), dtype=bool)
        is_target = np.zeros((len(rows), width), dtype=bool)
        stands_for = np.ones((len(rows), width), dtype=np.float32)
        for number, (some, chosen, weight) in enumerate(rows):
            features[number, : len(some)] = some
            is_candidate[number, : len(some)] = True
            is_target[number, : len(some)] = chosen
            stands_for[number, : len(some)] = weight
        return cls(features, is_candidate, is_target, stands_for)


def search_weights(examples: Examples, *, k: int) -> Float32Array:
    """Return the weights of a grid, at least 0 and summing to 1, with the best mean NDCG.

    The search begins at the best single feature and moves weight from one feature to another while that helps, in
    steps of a fifth, a tenth, a twentieth.

    Args:
        examples: What the weights shall order.
        k: Depth of the NDCG.

    Returns:
        ``[F]``.
    """
    num_features = examples.features.shape[2]
    singles = np.eye(num_features)
    value, weights = max(((mean_ndcg(examples, single, k=k), single) for single in singles), key=lambda pair: pair[0])
    for step in _STEPS:
        improved = True
        while improved:
            moves = [
                np.round(weights + step * (singles[to] - singles[taken]), 6)
                for taken in range(num_features)
                for to in range(num_features)
                if taken != to and weights[taken] >= step - 1e-9
            ]
            values = [mean_ndcg(examples, move, k=k) for move in moves]
            best = int(np.argmax(values)) if values else -1
            improved = bool(values) and values[best] > value + 1e-9
            if improved:
                value, weights = values[best], moves[best]
    return weights.astype(np.float32)


def mean_ndcg(examples: Examples, weights: npt.NDArray[np.floating], *, k: int) -> float:
    """Return the mean NDCG of the weighted sum of features; of equal scores those of targets stand last.

    Example:
        >>> one = Examples.of([(np.array([[0.0], [2.0], [1.0]]), np.array([False, False, True]), np.ones(3))])
        >>> round(mean_ndcg(one, np.array([1.0]), k=10), 4)
        0.6309
    """
    scores = np.where(examples.is_candidate, examples.features @ weights.astype(np.float32), -np.inf)
    order = np.lexsort((examples.is_target, -scores), axis=1)[:, :k]
    discount = 1.0 / np.log2(np.arange(2, order.shape[1] + 2))
    gains = (np.take_along_axis(examples.is_target, order, axis=1) * discount).sum(axis=1)
    num_targets = np.minimum(examples.is_target.sum(axis=1), order.shape[1])
    ideal = np.concatenate([[1.0], np.cumsum(discount)])[num_targets]
    return float((gains / ideal).mean())


def learn_weights(examples: Examples, *, regularization: float) -> Float32Array:
    """Return the weights that make what was chosen most likely: softmax regression over each query's candidates.

    Args:
        examples: What was chosen, and what could have been.
        regularization: Times the sum of squared weights, added to the mean cross-entropy.

    Returns:
        ``[F]``.
    """
    features = examples.features
    share = examples.is_target / np.maximum(examples.is_target.sum(axis=1, keepdims=True), 1)
    num_queries = len(features)
    # Who stands for many weighs as many in the sum of the softmax.
    offset = np.where(examples.is_candidate, np.log(examples.stands_for), -np.inf)

    def loss(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logits = features @ weights.astype(np.float32) + offset
        logits = logits - logits.max(axis=1, keepdims=True)
        chance = np.exp(logits)
        total = chance.sum(axis=1, keepdims=True)
        log_chance = np.where(examples.is_candidate, logits - np.log(total), 0.0)
        gradient = np.einsum("qc,qcf->f", chance / total - share, features, dtype=np.float64) / num_queries
        value = -float((share * log_chance).sum()) / num_queries + regularization * float(weights @ weights)
        return value, gradient + 2 * regularization * weights

    found = minimize(loss, np.zeros(features.shape[2]), jac=True, method="L-BFGS-B")
    weights: Float32Array = found.x.astype(np.float32)
    return weights
